"""The folders in which nnU-Net works for a study, and the dataset in nnU-Net's layout."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.data.dataset import Case, Dataset
from pipeline.data.folds import Fold
from pipeline.data.labels import label_values
from pipeline.data.layouts.description import IGNORE
from pipeline.data.nifti import read_header, read_nifti
from pipeline.data.plan import Plan
from pipeline.system.files import atomic_path, write_json

FILE_ENDING = ".nii.gz"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths of nnU-Net's folders inside a study; nothing is read or written.

    Attributes
    ----------
    root
        Folder of all others.
    dataset
        Name in nnU-Net's form, for example ``Dataset001_hippocampus``.
    """

    root: Path
    dataset: str

    @property
    def raw(self) -> Path:
        """Dataset in nnU-Net's layout."""
        return self.root / "raw" / self.dataset

    @property
    def preprocessed(self) -> Path:
        """Plans, splits and preprocessed cases."""
        return self.root / "preprocessed" / self.dataset

    @property
    def results(self) -> Path:
        """Results of all trainers."""
        return self.root / "results" / self.dataset

    @property
    def trainers(self) -> Path:
        """Trainer classes of the losses."""
        return self.root / "trainers"

    @property
    def prepared(self) -> Path:
        """Marker that is written once plans and preprocessed cases are complete."""
        return self.root / "prepared.json"

    def environment(self) -> dict[str, str]:
        """Return the variables by which nnU-Net finds these folders."""
        return {
            "nnUNet_raw": str((self.root / "raw").absolute()),
            "nnUNet_preprocessed": str((self.root / "preprocessed").absolute()),
            "nnUNet_results": str((self.root / "results").absolute()),
            "nnUNet_extTrainer": str(self.trainers.absolute()),
        }


def workspace_of(root: Path, dataset: Dataset) -> Workspace:
    """Return the workspace of a dataset.

    Parameters
    ----------
    root
        Folder of the workspace.
    dataset
        Gives the name.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", dataset.name).strip("_") or "dataset"
    return Workspace(root, f"Dataset001_{name}")


def write_raw_dataset(dataset: Dataset, plan: Plan, workspace: Workspace, on_case: Callable[[], None]) -> None:
    """Write a dataset in nnU-Net's layout; files that nnU-Net can read as they are become links.

    nnU-Net expects one compressed file per channel, and label values without gaps.

    Parameters
    ----------
    dataset
        Usable cases.
    plan
        Says which channels hold CT numbers.
    workspace
        Receives the files.
    on_case
        Called after each case.

    Raises
    ------
    DatasetError
        If a file cannot be read.
    """
    values = sorted(dataset.classes)
    for case in dataset.cases:
        _write_images(case, len(dataset.channels), workspace)
        _write_label(case, values, dataset.ignore_label, workspace)
        on_case()
    description = {
        "name": dataset.name,
        "channel_names": {
            str(index): "CT" if plan.normalisation[index] == "ct" else name
            for index, name in enumerate(dataset.channels)
        },
        "labels": _labels(dataset),
        "numTraining": len(dataset.cases),
        "file_ending": FILE_ENDING,
        # The only reader of nnU-Net that keeps every affine as it is, so that masks are on the grid of their label.
        "overwrite_image_reader_writer": "NibabelIO",
    }
    write_json(workspace.raw / "dataset.json", description)


def _labels(dataset: Dataset) -> dict[str, int]:
    """Return label values without gaps by name; nnU-Net demands the highest one for ignored voxels."""
    values = sorted(dataset.classes)
    labels = {"background" if value == 0 else dataset.classes[value]: index for index, value in enumerate(values)}
    return labels if dataset.ignore_label is None else labels | {IGNORE: len(values)}


def _write_images(case: Case, channels: int, workspace: Workspace) -> None:
    targets = [workspace.raw / "imagesTr" / f"{case.id}_{index:04d}{FILE_ENDING}" for index in range(channels)]
    if len(case.images) == channels:
        for source, target in zip(case.images, targets, strict=True):
            _link_or_convert(source, target)
        return
    image = nib.Nifti1Image.from_filename(str(case.images[0]))
    for index, target in enumerate(targets):
        _save(np.asarray(image.dataobj[..., index], dtype=np.float32), image.affine, target)


def _link_or_convert(source: Path, target: Path) -> None:
    """Link to a compressed 3D file; write any other NIfTI file as one."""
    if source.name.endswith(FILE_ENDING) and len(read_header(source).shape) == 3:
        _link(source, target)
        return
    image = nib.Nifti1Image.from_filename(str(source))
    _save(np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3]), image.affine, target)


def _save(voxels: np.ndarray, affine: np.ndarray, target: Path) -> None:
    with atomic_path(target) as temporary:
        nib.save(nib.Nifti1Image(voxels, affine), str(temporary))


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())


def _write_label(case: Case, values: Sequence[int], ignore_label: int | None, workspace: Workspace) -> None:
    """Link to a label of whole numbers without gaps; write any other label with the index of each value.

    Ignored voxels have the index after those of all classes.
    """
    assert case.label is not None  # a study has labeled cases only
    target = workspace.raw / "labelsTr" / f"{case.id}{FILE_ENDING}"
    header = read_header(case.label)
    whole = header.dtype.kind in "ui" and not header.is_scaled and len(header.shape) == 3
    expected = [*values] if ignore_label is None else [*values, ignore_label]
    if whole and expected == list(range(len(expected))) and case.label.name.endswith(FILE_ENDING):
        _link(case.label, target)
        return
    file = read_nifti(case.label)
    found = label_values(file.voxels, file.header).reshape(file.header.grid, order="F")
    indices = np.searchsorted(np.asarray(values), case.annotation.known_labels(found))
    indices = indices.astype(np.uint8 if len(values) < 256 else np.uint16)
    if ignore_label is not None:
        indices[found == ignore_label] = len(values)
    _save(indices, file.header.affine, target)


def splits(dataset: Dataset, folds: Sequence[Fold]) -> list[dict[str, list[str]]]:
    """Return the folds as nnU-Net's ``splits_final.json`` holds them.

    Parameters
    ----------
    dataset
        All cases.
    folds
        Held-out cases of each fold, in the order of their indices from 0.
    """
    return [
        {
            "train": [case.id for case in dataset.cases if case.id not in fold.cases],
            "val": [case.id for case in dataset.cases if case.id in fold.cases],
        }
        for fold in folds
    ]
