"""Files of a sweep, and its record."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pipeline.errors import RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.model import SparseRecord

REMEDY = "use another --out"


class SweepRequestRecord(SparseRecord):
    """Arguments of `whichloss sweep` that must stay the same for the sweep to be continued; `shape` is in voxels."""

    folds: int
    cases: int
    budget: str
    shape: tuple[int, int, int]
    first_seed: int
    learning_rates: tuple[float, ...] | None = None


class SweepRecord(SparseRecord):
    """The settings of a sweep; `fractions` are those of foreground voxels, in descending order."""

    schema_version: int = Field(1, alias="schema")
    request: SweepRequestRecord
    fractions: tuple[float, ...]
    command: str = ""


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Paths inside one sweep.

    ::

        sweep.json                        settings and the fractions
        sweep.csv                         every out-of-fold value: fraction, then the columns of cases.csv
        sweep.html, sweep.svg             the page, and its figure alone
        levels/<fraction>/phantoms, study one dataset and one study for each fraction
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings, written before the first level."""
        return self.root / "sweep.json"

    @property
    def table(self) -> Path:
        """The long table of all levels."""
        return self.root / "sweep.csv"

    @property
    def page(self) -> Path:
        """The self-contained HTML page."""
        return self.root / "sweep.html"

    @property
    def figure(self) -> Path:
        """The figure alone."""
        return self.root / "sweep.svg"

    def phantoms(self, fraction: float) -> Path:
        """Return the dataset of a level."""
        return self.root / "levels" / f"{fraction:g}" / "phantoms"

    def study(self, fraction: float) -> StudyFolder:
        """Return the study of a level."""
        return StudyFolder(self.root / "levels" / f"{fraction:g}" / "study")

    def read_record(self) -> SweepRecord:
        """Return the settings of the sweep.

        Raises
        ------
        RecordError
            If the folder holds no sweep, or one that cannot be read.
        """
        try:
            content = self.settings.read_bytes()
        except OSError as error:
            raise RecordError(self.root, "is not a sweep (no readable sweep.json)", REMEDY) from error
        return SweepRecord.parse(content, self.settings, REMEDY)
