"""Folds of nnU-Net: `splits_final.json`, a list of ``{"train": [...], "val": [...]}``, one for each fold."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.data.layouts.description import read_json
from pipeline.errors import ConfigError, DatasetError


def read_splits(path: Path) -> dict[str, int]:
    """Return the fold of each case: the index of the split that has the case in its validation set.

    Raises
    ------
    DatasetError
        The file is not such a list, or a case is in the validation sets of two folds. The predictions of two networks
        for one case could not be told apart.
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


def cases_of_fold(fold_of_case: Mapping[str, int], fold: int | None, path: Path) -> list[str]:
    """Return the cases in the validation set of one fold, or of all folds if `fold` is None.

    Parameters
    ----------
    fold_of_case
        Result of `read_splits`.
    fold
        Index of the fold, from 0.
    path
        File of the splits, for the error message.

    Raises
    ------
    ConfigError
        The fold has no cases.

    Examples
    --------
    >>> cases_of_fold({"a": 0, "b": 1, "c": 0}, 0, Path("splits_final.json"))
    ['a', 'c']
    """
    cases = [case for case, index in fold_of_case.items() if fold in (None, index)]
    if not cases:
        raise ConfigError(f"--fold {fold}", f"is not in {path}", f"give 0 to {max(fold_of_case.values(), default=0)}")
    return cases


def _not_splits(path: Path) -> DatasetError:
    return DatasetError(path, "is not a list of splits with train and val", "give nnU-Net's splits_final.json")
