"""Paths of the files of a study and of its runs."""

from dataclasses import dataclass
from pathlib import Path

STUDIES = "studies"
"""Folder of the studies of several recipes, inside the folder that holds them all."""


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """One run: loss x fold x seed. `loss` is the display name of the arm, which is safe as a folder name.

    Examples
    --------
    >>> RunKey("dice_ce", fold=0, seed=1).short_name
    'dice_ce s1 f0'
    """

    loss: str
    fold: int
    seed: int

    @property
    def short_name(self) -> str:
        """Name for progress and tables, for example ``dice_ce s1 f0``."""
        return f"{self.loss} s{self.seed} f{self.fold}"


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths inside one study; nothing is read or written.

    ::

        study.json                       settings, plan, dataset summary
        folds.json                       {"folds": [{"fold": 0, "cases": [...], "patients": [...]}]}
        fingerprint.json                 measurements of each case, with the hash of its files
        cases.csv                        every out-of-fold case of every finished run
        budgets.csv                      the same at the smaller budgets, if the study has several
        verdict.json, report.html
        mlflow.db, mlartifacts/
        trainer/                         files of a trainer other than our own engine
        runs/<loss>/fold<f>_seed<s>/     events.jsonl, run.json, cases.csv, thresholds.csv, checkpoint.pt,
                                         predictions/<case>.nii.gz, budgets.csv
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings of the study, written before the first run."""
        return self.root / "study.json"

    @property
    def folds(self) -> Path:
        """Cases and patients of each fold."""
        return self.root / "folds.json"

    @property
    def fingerprint(self) -> Path:
        """Measurements of each case when the study began."""
        return self.root / "fingerprint.json"

    @property
    def cases(self) -> Path:
        """The long table of all results."""
        return self.root / "cases.csv"

    @property
    def budgets(self) -> Path:
        """The long table of all results at the smaller budgets; it exists if the study has several budgets."""
        return self.root / "budgets.csv"

    @property
    def verdict(self) -> Path:
        """The verdict as JSON."""
        return self.root / "verdict.json"

    @property
    def report(self) -> Path:
        """The self-contained HTML page."""
        return self.root / "report.html"

    @property
    def trainer(self) -> Path:
        """Folder of the files of a trainer other than our own engine."""
        return self.root / "trainer"

    def run(self, key: RunKey) -> "RunFolder":
        """Return the folder of one run."""
        return RunFolder(self.root / "runs" / key.loss / f"fold{key.fold}_seed{key.seed}", key)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run."""

    root: Path
    key: RunKey

    @property
    def events(self) -> Path:
        """Append-only JSON lines, written during the run."""
        return self.root / "events.jsonl"

    @property
    def record(self) -> Path:
        """run.json, written last: its presence means that the run is complete."""
        return self.root / "run.json"

    @property
    def cases(self) -> Path:
        """Results of the held-out cases of this run."""
        return self.root / "cases.csv"

    @property
    def budgets(self) -> Path:
        """Results of the held-out cases at the smaller budgets; it exists if the study has several budgets."""
        return self.root / "budgets.csv"

    @property
    def thresholds(self) -> Path:
        """Dice of each case and class at each probability threshold, one class against the rest."""
        return self.root / "thresholds.csv"

    @property
    def checkpoint(self) -> Path:
        """Weights after the last step, with which the held-out cases were predicted."""
        return self.root / "checkpoint.pt"

    @property
    def predictions(self) -> Path:
        """Folder of the out-of-fold masks on their original grids."""
        return self.root / "predictions"
