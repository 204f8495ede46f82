"""Pairs of references and predictions, matched by file name."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference and the prediction of the same name."""

    case: str
    reference: Path
    prediction: Path


@dataclass(frozen=True, slots=True)
class Pairing:
    """Pairs of two folders, references without a prediction, and predictions without a reference."""

    pairs: tuple[Pair, ...]
    missing: tuple[Path, ...]
    extra: tuple[Path, ...]


def pair_files(references: Path, predictions: Path) -> Pairing:
    """Match the NIfTI files of two folders by name; ``a.nii`` and ``a.nii.gz`` are the same case ``a``.

    Two files, one reference and one prediction, are a pair whatever their names.

    Raises
    ------
    DatasetError
        When a folder is missing, has no NIfTI files, or holds a name twice.
    """
    if references.is_file() and predictions.is_file():
        return Pairing((Pair(case_of(references.name) or references.stem, references, predictions),), (), ())
    expected, found = _by_case(references), _by_case(predictions)
    return Pairing(
        pairs=tuple(Pair(case, path, found[case]) for case, path in expected.items() if case in found),
        missing=tuple(path for case, path in expected.items() if case not in found),
        extra=tuple(path for case, path in found.items() if case not in expected),
    )


def _by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DatasetError(folder, problem, "name a folder of label maps, or two single files")
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        case = case_of(path.name)
        if case is not None and path.is_file():
            files[case].append(path)
    if not files:
        raise DatasetError(folder, "holds no .nii or .nii.gz files", "name the folder of the label maps")
    for paths in files.values():
        _refuse_twins(folder, paths)
    return {case: paths[0] for case, paths in files.items()}


def case_of(name: str) -> str | None:
    """Return the case of a file name, None for hidden files and those that are not NIfTI."""
    if name.startswith("."):
        return None
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return None


def _refuse_twins(folder: Path, paths: Sequence[Path]) -> None:
    if len(paths) > 1:
        raise DatasetError(folder, f"holds both {paths[0].name} and {paths[1].name}", "keep one file for each case")
