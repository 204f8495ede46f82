"""A dataset, its cases and their problems, whatever the layout on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.data.annotation import COMPLETE, Annotation
from pipeline.errors import one_line

Layout = Literal["msd", "nnunet", "list"]


@dataclass(frozen=True, slots=True)
class Case:
    """Images and label of one patient at one time.

    Attributes
    ----------
    id
        Unique name, safe as a file name.
    images
        One file (3D, or 4D with channels last), or one 3D file per channel.
    label
        Label map; None where the dataset names none.
    patient
        Patient of the case; folds never split a patient.
    fold
        Fold that the user gave, if any.
    annotation
        What is known of the label: its ignored voxels, and the classes that were annotated.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None
    patient: str
    fold: int | None = None
    annotation: Annotation = COMPLETE

    @property
    def files(self) -> tuple[Path, ...]:
        """Image files, then the label file if there is one."""
        return (*self.images, *([self.label] if self.label else []))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labeled cases with the names of their channels and classes.

    Attributes
    ----------
    name, root, layout
        Name, folder and layout on disk.
    channels
        Names of the channels, in the order of the network's input.
    classes
        Names by label value, including the background (value 0). Networks see the index of a value in
        ``sorted(classes)``; files and tables have these values and names.
    cases
        The cases, in the order of the source.
    ignore_label
        Label value of voxels that nobody annotated; None if there are none.
    """

    name: str
    root: Path
    layout: Layout
    channels: tuple[str, ...]
    classes: Mapping[int, str]
    cases: tuple[Case, ...]
    ignore_label: int | None = None

    @property
    def foreground(self) -> dict[int, str]:
        """Names by label value without the background, in ascending order of value."""
        return {value: self.classes[value] for value in sorted(self.classes) if value != 0}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of a file (severity ``error``), or a peculiarity worth knowing (``note``).

    Examples
    --------
    >>> Problem("a.nii.gz", "a", "is empty (0 bytes)", "copy the file again", "error").line()
    'a.nii.gz: is empty (0 bytes); copy the file again'
    """

    file: str
    case: str
    problem: str
    remedy: str
    severity: Literal["error", "note"]

    def line(self) -> str:
        """Return the problem as one line of text."""
        return one_line(self.file, self.problem, self.remedy)
