"""Voxels of each class in the references of nnU-Net's training cases, counted once for each case."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DatasetError
from pipeline.system.files import write_json
from pipeline.system.json_values import to_json_object

CACHE = "segloss_class_voxels.json"
"""In the folder of the preprocessed dataset: size, time of change and counts of each reference."""

LabelReader = Callable[[str], tuple[Any, Any]]
"""nnU-Net's `read_seg`: returns labels (1, *S) and properties of a file."""


def count_labels(folder: Path, cases: Sequence[str], file_ending: str, read: LabelReader) -> dict[int, int]:
    """Return the voxels of each label value in the references of some cases.

    Parameters
    ----------
    folder
        Folder of the preprocessed dataset, with the references in ``gt_segmentations``.
    cases
        Names of the cases.
    file_ending
        Suffix of the references.
    read
        Reader of references.

    Raises
    ------
    DatasetError
        If a reference is missing.
    """
    paths = {case: folder / "gt_segmentations" / f"{case}{file_ending}" for case in cases}
    known = _cached(folder / CACHE)
    states = {case: _state(path) for case, path in paths.items()}
    missing = [case for case in cases if known.get(case, {}).get("state") != states[case]]
    if missing:
        # One after the other: nnU-Net's readers are not made for threads, and a training with them has crashed.
        known |= {case: {"state": states[case], "voxels": _counted(paths[case], read)} for case in missing}
        # Counting again costs seconds; a folder that cannot be written is no reason to stop a training.
        with suppress(OSError):
            write_json(folder / CACHE, to_json_object(known))
    total: Counter[int] = Counter()
    for case in cases:
        total.update({int(value): int(voxels) for value, voxels in known[case]["voxels"].items()})
    return dict(total)


def class_voxels(
    labels: Mapping[int, int], classes: int, regions: Sequence[Sequence[int]] | None, ignore_label: int | None
) -> tuple[tuple[int, ...], ...]:
    """Return the voxels of each class, or of the outside and the inside of each region, without ignored voxels.

    Parameters
    ----------
    labels
        Voxels of each label value.
    classes
        Number of classes, the background included.
    regions
        Label values of each region, or None for a dataset without regions.
    ignore_label
        Label of ignored voxels, or None.

    Examples
    --------
    >>> class_voxels({0: 90, 1: 6, 2: 4, 3: 50}, 3, None, ignore_label=3)
    ((90, 6, 4),)
    >>> class_voxels({0: 90, 1: 6, 2: 4}, 3, [(1, 2), (2,)], ignore_label=None)
    ((90, 10), (96, 4))
    """
    if regions is None:
        return (tuple(labels.get(value, 0) for value in range(classes)),)
    total = sum(voxels for value, voxels in labels.items() if value != ignore_label)
    inside = [sum(labels.get(value, 0) for value in region) for region in regions]
    return tuple((total - voxels, voxels) for voxels in inside)


def _cached(path: Path) -> dict[str, Any]:
    """Return the counts of an earlier training; none if the file is missing or is not ours."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _state(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(
            path, f"cannot be read ({error.strerror})", "run nnUNetv2_plan_and_preprocess for this dataset again"
        ) from error
    return [status.st_size, status.st_mtime_ns]


def _counted(path: Path, read: LabelReader) -> dict[str, int]:
    values, voxels = np.unique(np.asarray(read(str(path))[0]), return_counts=True)
    return {str(int(value)): int(count) for value, count in zip(values, voxels, strict=True)}
