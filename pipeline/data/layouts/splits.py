"""Folds of nnU-Net: `splits_final.json`, a list of ``{"train": [...], "val": [...]}``, one for each fold."""

from pathlib import Path

from pipeline.data.layouts.description import read_json
from pipeline.errors import DatasetError


def read_splits(path: Path) -> dict[str, int]:
    """Return the fold of each case: the index of the split that has it in its validation set.

    Raises
    ------
    DatasetError
        When the file is not such a list, or a case is in the validation sets of two folds: its predictions by the two
        networks could not be told apart.
    """
    content = read_json(path)
    folds: dict[str, int] = {}
    if not isinstance(content, list) or not content:
        raise _not_splits(path)
    for index, split in enumerate(content):
        cases = split.get("val") if isinstance(split, dict) else None
        if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
            raise _not_splits(path)
        for case in cases:
            if folds.setdefault(case, index) != index:
                raise DatasetError(
                    path,
                    f"has case {case} in the validation sets of folds {folds[case]} and {index}",
                    "evaluate each fold by itself, with --fold",
                )
    return folds


def _not_splits(path: Path) -> DatasetError:
    return DatasetError(
        path,
        "is not a list of splits with train and val",
        "give nnU-Net's splits_final.json",
    )
