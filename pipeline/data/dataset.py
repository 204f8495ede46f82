"""What a dataset is, whatever its layout on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Layout = Literal["msd", "nnunet", "list"]


@dataclass(frozen=True, slots=True)
class Case:
    """One patient's image(s) and label.

    `images` holds one file (3D, or 4D with channels last) or one 3D file for each channel.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str
    fold: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the images, then that of the label where there is one."""
        return (*self.images, *([self.label] if self.label else []))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled cases with the names of their channels and classes.

    `classes` maps label values to names and includes the background, value 0. Networks see the index of a value in
    `sorted(classes)`; files and tables use the values and names given here.
    """

    name: str
    root: Path
    layout: Layout
    channels: tuple[str, ...]
    classes: Mapping[int, str]
    cases: tuple[Case, ...]

    @property
    def foreground(self) -> dict[int, str]:
        """Label values and names without the background, in ascending order of value."""
        return {value: self.classes[value] for value in sorted(self.classes) if value != 0}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong (severity `error`) or worth knowing (`note`) about one file."""

    file: str
    case: str
    problem: str
    remedy: str
    severity: Literal["error", "note"]

    def line(self) -> str:
        """Return the problem as the one line a user reads."""
        return f"{self.file}: {self.problem}; {self.remedy}"
