"""Raw folders of nnU-Net v2: imagesTr/CASE_0000.nii.gz (one file per channel), labelsTr/CASE.nii.gz, dataset.json."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.data.dataset import Case, Dataset
from pipeline.data.layouts.description import channel_names, class_names, ignore_value, listed, refuse_missing_files
from pipeline.data.layouts.naming import case_ids
from pipeline.errors import DatasetError


def read_nnunet(root: Path, description: Mapping[str, object], *, allow_missing: bool = False) -> Dataset:
    """Return the dataset of an nnU-Net folder.

    Parameters
    ----------
    root
        Folder of the dataset.
    description
        Content of its dataset.json.
    allow_missing
        True if cases with missing files are returned.

    Raises
    ------
    DatasetError
        The description is malformed, files are missing or have no place in the layout.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "heart": 1}}
    >>> with TemporaryDirectory() as name:
    ...     for file in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"):
    ...         (Path(name) / file).parent.mkdir()
    ...         (Path(name) / file).touch()
    ...     dataset = read_nnunet(Path(name), description)
    >>> dataset.foreground, [case.id for case in dataset.cases]
    ({1: 'heart'}, ['a'])
    """
    source = root / "dataset.json"
    channels = channel_names(description.get("channel_names"), source, "channel_names")
    classes = class_names(description.get("labels"), source)
    ending = description.get("file_ending", ".nii.gz")
    if ending not in (".nii.gz", ".nii"):
        raise DatasetError(source, f"has files ending in {ending!r}", "convert them to .nii.gz")
    if isinstance(description.get("dataset"), Mapping):
        named = _listed_cases(root, description["dataset"], source)
    else:
        named = _cases_in_folders(root, ending, len(channels), allow_missing)
    ids = case_ids(list(named), source)
    cases = tuple(
        Case(id=case, images=images, label=label, patient=case)
        for case, (images, label) in zip(ids, named.values(), strict=True)
    )
    if not allow_missing:
        refuse_missing_files(source, cases)
    name = str(description.get("name") or root.resolve().name)
    return Dataset(
        name=name,
        root=root,
        layout="nnunet",
        channels=channels,
        classes=classes,
        cases=cases,
        ignore_label=ignore_value(description.get("labels"), source),
    )


_Files = dict[str, tuple[tuple[Path, ...], Path]]
"""Images and label by name of the case."""


def _listed_cases(root: Path, listing: object, source: Path) -> _Files:
    """Return the files of a dataset.json that names them: ``{"CASE": {"images": [...], "label": ...}}``."""
    cases: _Files = {}
    assert isinstance(listing, Mapping)
    for name, entry in listing.items():
        images = entry.get("images") if isinstance(entry, Mapping) else None
        label = entry.get("label") if isinstance(entry, Mapping) else None
        if not isinstance(images, list) or not images or not isinstance(label, str):
            raise DatasetError(source, f"lists case {name!r} without images and label", "give the paths of both")
        cases[str(name)] = (tuple(root / str(image) for image in images), root / label)
    if not cases:
        raise DatasetError(source, "lists no cases in 'dataset'", "list them, or leave 'dataset' out")
    return cases


def _cases_in_folders(root: Path, ending: str, channels: int, allow_missing: bool) -> _Files:
    """Return the files in imagesTr and labelsTr, matched by name."""
    names = {}
    for folder in ("imagesTr", "labelsTr"):
        if not (root / folder).is_dir():
            folders = sorted(path.name for path in root.iterdir() if path.is_dir())
            raise DatasetError(
                root,
                f"has no folder {folder}, found {listed(folders)}",
                "give imagesTr and labelsTr beside dataset.json",
            )
        names[folder] = {
            path.name[: -len(ending)]
            for path in (root / folder).iterdir()
            if path.name.endswith(ending) and not path.name.startswith(".")
        }
    labels = names["labelsTr"]
    if not labels:
        raise DatasetError(root / "labelsTr", f"holds no label files (*{ending})", "add a label for each training case")
    numbered = {name: name.rpartition("_") for name in names["imagesTr"]}
    unnumbered = sorted(name for name, (case, _, number) in numbered.items() if not case or not _is_channel(number))
    if unnumbered:
        raise DatasetError(
            root / "imagesTr",
            f"holds {unnumbered[0]}{ending} without a channel number",
            f"name it {unnumbered[0]}_0000{ending}",
        )
    surplus = sorted(name for name, (_, _, number) in numbered.items() if int(number) >= channels)
    if surplus:
        raise DatasetError(
            root / "imagesTr",
            f"holds {surplus[0]}{ending} where dataset.json names {channels} channel(s), _0000 to _{channels - 1:04d}",
            "name every channel in channel_names, or remove the file",
        )
    imaged = {case for case, _, _ in numbered.values()}
    if not allow_missing and imaged ^ labels:
        lone = sorted(imaged - labels)
        lacking = f"no label for {listed(lone, 3)}" if lone else f"no image for {listed(sorted(labels - imaged), 3)}"
        raise DatasetError(
            root, f"has {len(imaged)} cases with images and {len(labels)} labels, {lacking}", "add or remove files"
        )
    return {
        case: (
            tuple(root / "imagesTr" / f"{case}_{channel:04d}{ending}" for channel in range(channels)),
            root / "labelsTr" / f"{case}{ending}",
        )
        for case in sorted(imaged | labels)
    }


def _is_channel(number: str) -> bool:
    return len(number) == 4 and number.isascii() and number.isdigit()
