"""Pairs of references and predictions, matched by file name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError

SUFFIXES = (".nii.gz", ".nii")
MASKS = "masks"
CHANNEL = "_0000"
"""How nnU-Net's names of first channels end."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A reference and the prediction of the same name."""

    case: str
    reference: Path
    prediction: Path


@dataclass(frozen=True, slots=True)
class Pairing:
    """Pairs of two folders, references without a prediction, and predictions without a reference.

    `searched` is the folder where the predictions were found.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[Path, ...]
    extra: tuple[Path, ...]
    searched: Path


def pair_files(references: Path, predictions: Path) -> Pairing:
    """Match the NIfTI files of two folders by name; ``a.nii`` and ``a.nii.gz`` are the same case ``a``.

    A folder without such files but with a folder ``masks``, as `segloss predict` writes, stands for that folder. Where
    no file has exactly the same name, nnU-Net's channel number is ignored: ``a_0000`` is the same case as ``a``. Two
    files, one reference and one prediction, are a pair whatever their names.

    Raises
    ------
    DatasetError
        When a folder is missing, has no NIfTI files, or holds a name twice.
    """
    if references.is_file() and predictions.is_file():
        pair = Pair(case_of(references.name) or references.stem, references, predictions)
        return Pairing((pair,), (), (), predictions.parent)
    expected, files = _by_case(references), _by_case(predictions)
    found = _named_alike(expected, files)
    return Pairing(
        pairs=tuple(Pair(case, path, found[case]) for case, path in expected.items() if case in found),
        missing=tuple(path for case, path in expected.items() if case not in found),
        extra=tuple(path for case, path in found.items() if case not in expected),
        searched=next(iter(files.values())).parent,
    )


def _by_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DatasetError(folder, problem, "name a folder of label maps, or two single files")
    files = _files_by_case(folder) or _files_by_case(folder / MASKS)
    if not files:
        raise DatasetError(folder, "holds no .nii or .nii.gz files", "name the folder of the label maps")
    for paths in files.values():
        _refuse_twins(paths[0].parent, paths)
    return {case: paths[0] for case, paths in files.items()}


def _files_by_case(folder: Path) -> dict[str, list[Path]]:
    """Return all NIfTI files of a folder, also pipes and broken links, which reading refuses with the reason."""
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        case = case_of(path.name)
        if case is not None and not path.is_dir():
            files[case].append(path)
    return files


def _named_alike(expected: Mapping[str, Path], found: Mapping[str, Path]) -> dict[str, Path]:
    """Return the predictions under the names of their references, which may differ by ``_0000``."""
    open_references = {case.removesuffix(CHANNEL): case for case in expected if case not in found}
    return {
        case if case in expected else open_references.get(case.removesuffix(CHANNEL), case): path
        for case, path in found.items()
    }


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
