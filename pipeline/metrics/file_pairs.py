"""Pairs of reference and prediction files, matched by name."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.layouts.naming import is_nifti, stem
from pipeline.errors import DatasetError

MASKS = "masks"
"""Folder in which `whichloss predict` writes its masks."""

CHANNEL = "_0000"
"""Suffix that nnU-Net gives to the first channel of a case."""


@dataclass(frozen=True, slots=True)
class FilePair:
    """A reference and the prediction of the same case."""

    case: str
    reference: Path
    prediction: Path


@dataclass(frozen=True, slots=True)
class Pairing:
    """Result of matching two folders.

    Attributes
    ----------
    pairs
        Matched files, in the order of the names of the references.
    missing
        References without a prediction.
    extra
        Predictions without a reference.
    prediction_folder
        Folder that holds the predictions.
    """

    pairs: tuple[FilePair, ...]
    missing: tuple[Path, ...]
    extra: tuple[Path, ...]
    prediction_folder: Path


def pair_files(references: Path, predictions: Path) -> Pairing:
    """Match the NIfTI files of references and predictions by name; ``a.nii`` and ``a.nii.gz`` are both the case ``a``.

    A folder that holds no such files but a folder ``masks``, as `whichloss predict` writes it, stands for that folder.
    If no file has exactly the same name, nnU-Net's channel number is ignored: ``a_0000`` is the same case as ``a``. Two
    files instead of two folders are a pair whatever their names.

    Parameters
    ----------
    references, predictions
        Two folders, or two files.

    Raises
    ------
    DatasetError
        A folder does not exist, has no NIfTI files, or holds a case twice.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     references, predictions = Path(name) / "labelsTr", Path(name) / "net"
    ...     for path in (references / "a.nii.gz", references / "b.nii.gz", predictions / "a.nii"):
    ...         path.parent.mkdir(exist_ok=True)
    ...         path.touch()
    ...     pairing = pair_files(references, predictions)
    >>> [pair.case for pair in pairing.pairs], [path.name for path in pairing.missing]
    (['a'], ['b.nii.gz'])
    """
    if references.is_file() and predictions.is_file():
        return Pairing((FilePair(stem(references), references, predictions),), (), (), predictions.parent)
    reference_of, files = _file_of_case(references), _file_of_case(predictions)
    prediction_of = _with_reference_names(files, reference_of)
    return Pairing(
        pairs=tuple(
            FilePair(case, path, prediction_of[case]) for case, path in reference_of.items() if case in prediction_of
        ),
        missing=tuple(path for case, path in reference_of.items() if case not in prediction_of),
        extra=tuple(path for case, path in prediction_of.items() if case not in reference_of),
        prediction_folder=next(iter(files.values())).parent,
    )


def _file_of_case(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DatasetError(folder, problem, "name a folder of label maps, or two single files")
    files = _files_of_cases(folder) or _files_of_cases(folder / MASKS)
    if not files:
        raise DatasetError(folder, "holds no .nii or .nii.gz files", "name the folder of the label maps")
    for paths in files.values():
        _refuse_duplicates(paths)
    return {case: paths[0] for case, paths in files.items()}


def _files_of_cases(folder: Path) -> dict[str, list[Path]]:
    """Return all NIfTI files by case, including pipes and broken links, which reading refuses with the reason."""
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if is_nifti(path) and not path.is_dir():
            files[stem(path)].append(path)
    return files


def _with_reference_names(predictions: Mapping[str, Path], references: Mapping[str, Path]) -> dict[str, Path]:
    """Return the predictions by the name of their reference, which may differ by ``_0000``."""
    unmatched = {case.removesuffix(CHANNEL): case for case in references if case not in predictions}
    return {
        case if case in references else unmatched.get(case.removesuffix(CHANNEL), case): path
        for case, path in predictions.items()
    }


def _refuse_duplicates(paths: Sequence[Path]) -> None:
    if len(paths) > 1:
        folder = paths[0].parent
        raise DatasetError(folder, f"holds both {paths[0].name} and {paths[1].name}", "keep one file for each case")
