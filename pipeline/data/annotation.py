"""What is known of a label: which voxels were annotated, and for which classes.

A voxel with the ignore label was annotated for no class. A class that was not annotated in a case may be anywhere in
it. Neither is background.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

IGNORED_INDEX = 255
"""Index of ignored voxels in prepared labels; classes have the indices 0 to 254."""

LabelType = TypeVar("LabelType", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is known of the label of one case.

    Attributes
    ----------
    ignore
        Label value of voxels that nobody annotated; None if there are none.
    classes
        Label values of the foreground classes that were annotated, in ascending order; None for all.

    Examples
    --------
    >>> annotation = Annotation(ignore=4, classes=(1, 3))
    >>> annotation.known_labels(np.array([0, 1, 2, 3, 4])).tolist()
    [0, 1, 0, 3, 0]
    >>> annotation.ignored_voxels(np.array([0, 1, 2, 3, 4])).tolist()
    [False, False, False, False, True]
    """

    ignore: int | None = None
    classes: tuple[int, ...] | None = None

    @property
    def is_complete(self) -> bool:
        """True if every class was annotated and no voxel can be ignored."""
        return self.ignore is None and self.classes is None

    def includes(self, value: int) -> bool:
        """Return whether a class was annotated; the background always was."""
        return self.classes is None or value == 0 or value in self.classes

    def ignored_voxels(self, labels: NDArray[Any]) -> NDArray[np.bool_] | None:
        """Return the mask of ignored voxels of label values of any shape; None if there cannot be any."""
        return None if self.ignore is None else np.asarray(labels == self.ignore)

    def known_labels(self, labels: NDArray[LabelType]) -> NDArray[LabelType]:
        """Return label values with 0 for ignored voxels and for classes that were not annotated.

        The same array is returned if nothing changes. Without `classes`, unexpected values stay as they are.
        """
        unknown = np.zeros(labels.shape, bool)
        if self.ignore is not None:
            unknown |= labels == self.ignore
        if self.classes is not None:
            unknown |= ~np.isin(labels, (0, *self.classes))
        if not unknown.any():
            return labels
        known = labels.copy()
        known[unknown] = 0
        return known

    def as_indices(self, values: Sequence[int]) -> "Annotation":
        """Return the same of a label that holds indices among sorted `values` and `IGNORED_INDEX`."""
        indices = None if self.classes is None else tuple(values.index(value) for value in self.classes)
        return Annotation(None if self.ignore is None else IGNORED_INDEX, indices)


COMPLETE = Annotation()
"""Annotation of a label of which everything is known."""


def class_indices(labels: NDArray[Any], values: Sequence[int], annotation: Annotation) -> NDArray[np.uint8]:
    """Return the index of each label value among sorted `values`, and `IGNORED_INDEX` for ignored voxels.

    A class that was not annotated becomes background.

    Parameters
    ----------
    labels
        Label values, whole numbers of any type and shape.
    values
        Label values of all classes, the background among them, in ascending order.
    annotation
        What is known of the label.

    Examples
    --------
    >>> class_indices(np.array([0, 2, 5, 9]), (0, 2, 5), Annotation(ignore=9, classes=(2,))).tolist()
    [0, 1, 0, 255]
    """
    indices = np.searchsorted(np.asarray(values), annotation.known_labels(labels)).astype(np.uint8)
    ignored = annotation.ignored_voxels(labels)
    if ignored is not None:
        indices[ignored] = IGNORED_INDEX
    return indices


def missing_names(annotation: Annotation, classes: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of the foreground classes that were not annotated, in ascending order of value."""
    return tuple(classes[value] for value in sorted(classes) if not annotation.includes(value))


def has_ignored(annotations: Iterable[Annotation]) -> bool:
    """Return whether any of some labels may have ignored voxels."""
    return any(annotation.ignore is not None for annotation in annotations)


def is_partial(annotations: Iterable[Annotation]) -> bool:
    """Return whether any of some labels lacks classes."""
    return any(annotation.classes is not None for annotation in annotations)
