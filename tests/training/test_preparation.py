import json

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd, Spacingd

from pipeline.data.datalists import read_dataset
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.training.preparation import prepare_dataset, to_planned_grid


def dataset_of(root, cases=3):
    entries = []
    for index in range(cases):
        label = np.zeros((12, 14, 10), np.uint8)
        label[4:8, 5:9, 3:7] = 1
        image = (label + np.random.default_rng(index).standard_normal(label.shape)).astype(np.float32)
        entry = {"image": f"./i{index}.nii.gz", "label": f"./l{index}.nii.gz"}
        for name, volume in (("image", image), ("label", label)):
            nib.save(nib.Nifti1Image(volume, np.diag([-1.0, 1.0, 2.0, 1.0])), root / entry[name])
        entries.append(entry)
    description = {"name": "x", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "box"}}
    (root / "dataset.json").write_text(json.dumps(description | {"training": entries}))
    return scan_dataset(read_dataset(root))


def test_processes_and_this_one_prepare_the_same_bytes(tmp_path, monkeypatch):
    found = dataset_of(tmp_path)
    plan = make_plan(found.dataset, found.fingerprint)
    hashes = {scan.case: scan.content_hash for scan in found.fingerprint.scans}
    threads = torch.get_num_threads()
    here = prepare_dataset(found.dataset, plan, hashes, tmp_path / "here")
    assert torch.get_num_threads() == threads
    monkeypatch.setattr("pipeline.training.preparation.MINIMUM_POOL_BYTES", 0)
    pooled = prepare_dataset(found.dataset, plan, hashes, tmp_path / "pooled")
    assert len(here) == 3
    assert here.keys() == pooled.keys()
    for case, prepared in here.items():
        assert prepared.folder.name == pooled[case].folder.name
        for name in ("image.npy", "label.npy", "foreground.npz", "prepared.json"):
            assert (prepared.folder / name).read_bytes() == (pooled[case].folder / name).read_bytes(), name


TURNED = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
TILTED = np.array([[np.cos(0.1), -np.sin(0.1), 0.0], [np.sin(0.1), np.cos(0.1), 0.0], [0.0, 0.0, 1.0]])
SHEARED = np.array([[1.0, np.sin(0.1), 0.0], [0.0, np.cos(0.1), 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("key", ["image", "label"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 2.0), (1.00005, 1.0, 2.0), (1.0005, 1.0, 2.0), (0.9, 1.0, 2.0)])
@pytest.mark.parametrize("axes", [np.eye(3), np.diag([-1.0, 1.0, 1.0]), TURNED, TILTED, SHEARED])
def test_what_is_left_out_would_have_changed_nothing(tmp_path, key, spacing, axes):
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = 5, -7, 11
    volume = np.random.default_rng(0).integers(0, 3, (9, 10, 7)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "x.nii.gz")
    every = Compose(
        [
            LoadImaged(key, reader="NibabelReader", image_only=True),
            EnsureChannelFirstd(key),
            EnsureTyped(key, dtype=np.float32),
            Orientationd(key, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd(key, (1, 1, 2), mode="bilinear" if key == "image" else "nearest", padding_mode="border"),
        ]
    )({key: tmp_path / "x.nii.gz"})[key]
    found = to_planned_grid((1.0, 1.0, 2.0), key)({key: tmp_path / "x.nii.gz"})[key]
    np.testing.assert_array_equal(found.numpy(), every.numpy())
    np.testing.assert_allclose(found.affine.numpy(), every.affine.numpy(), rtol=0, atol=1e-6)
