"""Reading of a dataset in any supported layout."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.data.dataset import Dataset
from pipeline.data.layouts.annotated import with_annotation
from pipeline.data.layouts.casefolders import read_case_folders
from pipeline.data.layouts.description import listed, read_json
from pipeline.data.layouts.msd import read_msd
from pipeline.data.layouts.nnunet import read_nnunet
from pipeline.data.layouts.tables import read_json_list, read_list
from pipeline.errors import DatasetError

_LIST_SUFFIXES = (".csv", ".tsv", ".txt", ".json")
_LAYOUTS = "give a Decathlon or nnU-Net v2 folder, a folder with one folder per case, or a CSV or JSON list"


def read_dataset(path: Path, *, allow_missing: bool = False, ignore_label: int | None = None) -> Dataset:
    """Return the cases, channels and classes of a dataset, without opening its volumes.

    Parameters
    ----------
    path
        A Medical Segmentation Decathlon folder, an nnU-Net v2 raw folder, a folder with one folder per case, or a CSV
        or JSON list. Lists and case folders may lack classes (`Dataset.classes` is then empty) and the channels of 4D
        images; `pipeline.data.scan.scan_dataset` adds them.
    allow_missing
        True if cases with missing files are returned, so that the scan can report each of them.
    ignore_label
        Label value of voxels that nobody annotated; None for that of the dataset, if it names one.

    Raises
    ------
    DatasetError
        The layout is none of these, cases share an id, files are missing, or ``annotated.json`` does not fit.
    ConfigError
        The ignore label is also a class.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.data.phantoms import make_phantoms
    >>> with TemporaryDirectory() as name:
    ...     dataset = read_dataset(make_phantoms(Path(name), cases=2, shape=(24, 24, 20), foreground_fraction=0.05))
    >>> [case.id for case in dataset.cases], dataset.foreground
    (['phantom_000', 'phantom_001'], {1: 'deep_grey', 2: 'nucleus', 3: 'lesions'})
    """
    return with_annotation(_read(Path(path).expanduser(), allow_missing), ignore_label)


def _read(path: Path, allow_missing: bool) -> Dataset:
    try:
        if path.is_dir():
            return _read_folder(path, allow_missing)
        require_dataset(path)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            raise DatasetError(path, "is a single volume, not a dataset", _LAYOUTS)
        if path.suffix.lower() not in _LIST_SUFFIXES:
            raise DatasetError(path, f"is not a list of cases (expected {', '.join(_LIST_SUFFIXES)})", _LAYOUTS)
        if path.suffix.lower() == ".json":
            content = read_json(path)
            described = isinstance(content, Mapping) and ("training" in content or _is_nnunet(content))
            if isinstance(content, Mapping) and described:
                return _read_described(path, content, allow_missing)
            return read_json_list(path, content, allow_missing=allow_missing)
        return read_list(path, allow_missing=allow_missing)
    except OSError as error:
        raise DatasetError(
            path, f"cannot be read ({error.strerror or error})", "check the path and its permissions"
        ) from None


def require_dataset(path: Path) -> None:
    """Raise a `DatasetError` if a path does not exist; a quick check before the dataset is read."""
    if not path.expanduser().exists():
        raise DatasetError(path, "does not exist", _LAYOUTS)


def _read_folder(root: Path, allow_missing: bool) -> Dataset:
    description = root / "dataset.json"
    if description.is_file():
        content = read_json(description)
        if not isinstance(content, Mapping):
            raise DatasetError(
                description, "is not a JSON object", "write the description of a Decathlon or nnU-Net dataset"
            )
        return _read_described(description, content, allow_missing)
    names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    if not names:
        raise DatasetError(root, "is an empty folder", _LAYOUTS)
    if "imagesTr" in names or "labelsTr" in names:
        raise DatasetError(
            root, f"has no dataset.json, found {listed(names)}", "add the dataset.json that names channels and classes"
        )
    return read_case_folders(root, allow_missing=allow_missing)


def _read_described(path: Path, content: Mapping[str, object], allow_missing: bool) -> Dataset:
    if _is_nnunet(content):
        return read_nnunet(path.parent, content, allow_missing=allow_missing)
    if "training" in content:
        return read_msd(path.parent, content, allow_missing=allow_missing)
    raise DatasetError(
        path,
        f"has the keys {listed(sorted(map(str, content)))}; "
        "expected 'training' (Decathlon) or 'channel_names' (nnU-Net)",
        "write the description of one of these",
    )


def _is_nnunet(content: Mapping[str, object]) -> bool:
    return "channel_names" in content or "file_ending" in content
