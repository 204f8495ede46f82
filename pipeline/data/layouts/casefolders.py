"""One folder per case, with one file per channel and one label: ``patient07/{FLAIR,T1,lesions}.nii.gz``."""

from collections import Counter
from pathlib import Path

from pipeline.data.dataset import Case, Dataset
from pipeline.data.layouts.description import listed, refuse_missing_files
from pipeline.data.layouts.naming import case_ids, is_nifti, stem
from pipeline.errors import DatasetError

LABEL_NAMES = frozenset(
    name + plural
    for name in ("label", "seg", "segmentation", "mask", "lesion", "annotation", "gt", "groundtruth", "ground_truth")
    for plural in ("", "s")
)
"""Names, in lower case and without suffix, of the file that holds the label."""


def read_case_folders(root: Path, *, allow_missing: bool = False) -> Dataset:
    """Return the dataset whose cases are the folders of `root` that hold NIfTI files.

    All folders must hold files with the same names, exactly one of them in `LABEL_NAMES`. A prefix that repeats the
    name of the folder is ignored (``BraTS_001/BraTS_001_flair.nii.gz``).

    Parameters
    ----------
    root
        Folder of the case folders.
    allow_missing
        True if cases with missing files are returned.

    Raises
    ------
    DatasetError
        There are no such folders, no or several labels, or folders with different files.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     for file in ("p1/T1.nii.gz", "p1/seg.nii.gz", "p2/T1.nii.gz", "p2/seg.nii.gz"):
    ...         (Path(name) / file).parent.mkdir(exist_ok=True)
    ...         (Path(name) / file).touch()
    ...     dataset = read_case_folders(Path(name))
    >>> dataset.channels, [(case.id, case.label.name) for case in dataset.cases]
    (('T1',), [('p1', 'seg.nii.gz'), ('p2', 'seg.nii.gz')])
    """
    folders = {
        folder: _files_by_role(folder)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".") and any(map(is_nifti, folder.iterdir()))
    }
    if not folders:
        found = listed(sorted(path.name for path in root.iterdir() if not path.name.startswith(".")))
        raise DatasetError(
            root,
            f"is not a dataset: expected dataset.json or one folder per case with NIfTI files, found {found}",
            "give a Decathlon or nnU-Net folder, a CSV or JSON list, or case folders",
        )
    roles = Counter(frozenset(files) for files in folders.values()).most_common(1)[0][0]
    labels = sorted(role for role in roles if role.lower() in LABEL_NAMES)
    if len(labels) != 1:
        found = "none" if not labels else listed(labels)
        raise DatasetError(
            root,
            f"has case folders with {listed(sorted(roles))}; expected one label file (label, seg, lesions, ...), "
            f"found {found}",
            "name the label file label.nii.gz in every case folder",
        )
    for folder, files in folders.items():
        surplus, lacking = sorted(set(files) - roles), sorted(roles - set(files))
        if surplus or (lacking and not allow_missing):
            difference = f"lacks {listed(lacking)}" if lacking else f"also has {listed(surplus)}"
            raise DatasetError(
                folder, f"{difference}, where most case folders hold {listed(sorted(roles))}", "give all the same files"
            )
    channels = sorted(roles - set(labels))
    if not channels:
        raise DatasetError(root, f"has case folders with {labels[0]} alone and no image", "add the images")
    cases = tuple(
        Case(
            id=case,
            images=tuple(files.get(channel, folder / f"{channel}.nii.gz") for channel in channels),
            label=files.get(labels[0], folder / f"{labels[0]}.nii.gz"),
            patient=case,
        )
        for case, (folder, files) in zip(case_ids([path.name for path in folders], root), folders.items(), strict=True)
    )
    if not allow_missing:
        refuse_missing_files(root, cases)
    return Dataset(
        name=root.resolve().name, root=root, layout="list", channels=tuple(channels), classes={}, cases=cases
    )


def _files_by_role(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(filter(is_nifti, folder.iterdir())):
        role = stem(path)
        if role.startswith(folder.name) and len(role) > len(folder.name):
            role = role[len(folder.name) :].lstrip("_-. ") or role
        if role in files:
            raise DatasetError(folder, f"has both {files[role].name} and {path.name}", "keep one of them")
        files[role] = path
    return files
