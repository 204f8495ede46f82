"""Where each thing stands in a study folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import RecordError


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """One run: loss x fold x seed. `loss` is the arm's display name, safe as a folder name."""

    loss: str
    fold: int
    seed: int

    @property
    def short_name(self) -> str:
        """Return e.g. ``dice_ce s1 f0``."""
        return f"{self.loss} s{self.seed} f{self.fold}"


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Paths inside one study.

    ::

        study.json                       settings, plan, dataset summary
        folds.json                       {"folds": [{"fold": 0, "cases": [...], "patients": [...]}]}
        fingerprint.json
        cases.csv                        every out-of-fold case of every finished run
        verdict.json, report.html
        mlflow.db, mlartifacts/
        runs/<loss>/fold<f>_seed<s>/     events.jsonl, run.json, cases.csv, thresholds.csv, checkpoint.pt,
                                         predictions/<case>.nii.gz
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings of the study, written before the first run."""
        return self.root / "study.json"

    @property
    def cases(self) -> Path:
        """The long table of all results."""
        return self.root / "cases.csv"

    @property
    def verdict(self) -> Path:
        """The verdict as JSON."""
        return self.root / "verdict.json"

    @property
    def report(self) -> Path:
        """The self-contained HTML page."""
        return self.root / "report.html"

    def run(self, key: RunKey) -> "RunFolder":
        """Return the folder of one run."""
        return RunFolder(self.root / "runs" / key.loss / f"fold{key.fold}_seed{key.seed}", key)

    def runs(self) -> Iterator["RunFolder"]:
        """Yield the folders of all runs named by the settings, finished or not, in the order of the plan."""
        for entry in self.read_settings()["runs"]:
            yield self.run(RunKey(entry["loss"], entry["fold"], entry["seed"]))

    def read_settings(self) -> dict[str, Any]:
        """Return study.json; a `RecordError` where there is none."""
        try:
            return dict(json.loads(self.settings.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RecordError(
                self.root, "is not a study folder (no readable study.json)", "give the --out folder of `segloss study`"
            ) from error


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run."""

    root: Path
    key: RunKey

    @property
    def events(self) -> Path:
        """Append-only JSON lines written while the run goes on."""
        return self.root / "events.jsonl"

    @property
    def record(self) -> Path:
        """run.json, written last: its presence means that the run is complete."""
        return self.root / "run.json"

    @property
    def cases(self) -> Path:
        """The run's own part of the table of results."""
        return self.root / "cases.csv"

    @property
    def thresholds(self) -> Path:
        """Dice of each case and class at each threshold of the probability, one class against the rest."""
        return self.root / "thresholds.csv"

    @property
    def checkpoint(self) -> Path:
        """Weights after the last step, as predicted with."""
        return self.root / "checkpoint.pt"

    @property
    def predictions(self) -> Path:
        """Folder of the out-of-fold masks on their original grids."""
        return self.root / "predictions"
