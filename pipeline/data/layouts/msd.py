"""Folders of the Medical Segmentation Decathlon: a dataset.json with `training`, `modality` and `labels`."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.data.dataset import Case, Dataset
from pipeline.data.layouts.description import (
    channel_names,
    class_names,
    ignore_value,
    listed,
    refuse_missing_files,
    shown,
)
from pipeline.data.layouts.naming import case_ids, stem
from pipeline.errors import DatasetError


def read_msd(root: Path, description: Mapping[str, object], *, allow_missing: bool = False) -> Dataset:
    """Return the dataset that a dataset.json lists.

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
        The description is malformed, cases share an id, or files are missing.

    Examples
    --------
    >>> training = [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}]
    >>> description = {"labels": {"1": "liver"}, "training": training}
    >>> dataset = read_msd(Path("Task03"), description, allow_missing=True)
    >>> dataset.foreground, [case.id for case in dataset.cases]
    ({1: 'liver'}, ['a'])
    """
    source = root / "dataset.json"
    training = description["training"]
    if not isinstance(training, list) or not training:
        raise DatasetError(source, "lists no training cases in 'training'", 'write [{"image": ..., "label": ...}, ...]')
    pairs = []
    for index, entry in enumerate(training):
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
            found = listed(sorted(map(str, entry))) if isinstance(entry, Mapping) else shown(entry)
            raise DatasetError(
                source,
                f"training entry {index} must have an image and a label; found {found}",
                "give the paths of both",
            )
        pairs.append((root / entry["image"], root / entry["label"]))
    ids = case_ids([stem(image) for image, _ in pairs], source)
    cases = tuple(
        Case(id=case, images=(image,), label=label, patient=case)
        for case, (image, label) in zip(ids, pairs, strict=True)
    )
    if not allow_missing:
        refuse_missing_files(source, cases)
    return Dataset(
        name=str(description.get("name") or root.resolve().name),
        root=root,
        layout="msd",
        channels=channel_names(description.get("modality", ["image"]), source, "modality"),
        classes=class_names(description.get("labels"), source),
        cases=cases,
        ignore_label=ignore_value(description.get("labels"), source),
    )
