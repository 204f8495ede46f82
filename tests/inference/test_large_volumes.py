import nibabel as nib
import numpy as np
import pytest
from small_model import head, small_model

from pipeline.inference import case_steps
from pipeline.inference import large_volumes as large
from pipeline.inference.batch import Batch
from pipeline.inference.options import Options
from pipeline.inference.scoring import is_large
from pipeline.inference.sources import find_jobs

SIDEWAYS = np.array([[0.0, 0.0, -0.9, 9.0], [0.8, 0.0, 0.0, 3.0], [0.0, 1.3, 0.0, 4.0], [0.0, 0.0, 0.0, 1.0]])
OBLIQUE = np.array([[-0.8, 0.0, 0.0, 9.0], [0.0, 0.78, -0.4, 3.0], [0.0, 0.31, 1.0, 4.0], [0.0, 0.0, 0.0, 1.0]])


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


@pytest.mark.usefixtures("quick_pictures")
@pytest.mark.parametrize(
    "affine", [np.diag([-1.0, 1.0, 1.0, 1.0]), np.diag([0.8, -0.8, 1.3, 1.0]), SIDEWAYS, SIDEWAYS.round(), OBLIQUE]
)
@pytest.mark.parametrize("scaled", [False, True])
def test_slab_by_slab_gives_the_mask_of_the_bundle_within_a_thousandth_and_its_probabilities(
    tmp_path, monkeypatch, affine, scaled
):
    image = nib.Nifti1Image(head(shape=(40, 44, 36)), affine)
    if scaled:
        image.header.set_slope_inter(0.5, 3.0)
    nib.save(image, tmp_path / "a.nii.gz")
    model = small_model(keep_largest=[2], classes={3: "shell", 7: "core"}, fingerprint={})
    jobs = find_jobs(tmp_path / "a.nii.gz", model.channels)
    Batch(model, tmp_path / "whole", Options(probabilities=True)).run(jobs)
    monkeypatch.setattr(case_steps, "is_large", lambda *_: True)
    monkeypatch.setattr(large, "_CHUNK_VOXELS", 40 * 44 * 7)
    (record,) = Batch(model, tmp_path / "slabs", Options(probabilities=True)).run(jobs)
    assert record.status == "done", record.reason
    assert set(record.files) == {"masks/a.nii.gz", "qc/a.png", "probabilities/a.nii.gz"}
    whole, slabs = (np.asarray(nib.load(tmp_path / name / "masks/a.nii.gz").dataobj) for name in ("whole", "slabs"))
    assert set(np.unique(whole)) == {0, 3, 7}
    for value in (3, 7):
        assert dice(whole == value, slabs == value) > 0.999
    files = [nib.load(tmp_path / name / "probabilities/a.nii.gz") for name in ("whole", "slabs")]
    assert files[0].header.binaryblock == files[1].header.binaryblock
    wanted, found = (np.asarray(file.dataobj) for file in files)
    assert found.shape == (40, 44, 36, 3)
    assert wanted.std(axis=(0, 1, 2)).min() > 0.1
    resampled = not np.allclose(np.linalg.norm(affine[:3, :3], axis=0), 1)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 if resampled else 0)
    assert not list((tmp_path / "slabs").glob(".work"))


@pytest.mark.usefixtures("quick_pictures")
def test_slab_by_slab_gives_the_same_mask_with_test_time_augmentation(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(head(shape=(40, 44, 36)), np.eye(4)), tmp_path / "a.nii.gz")
    model = small_model()
    jobs = find_jobs(tmp_path / "a.nii.gz", model.channels)
    for name, tta in (("once", False), ("whole", True)):
        Batch(model, tmp_path / name, Options(tta=tta)).run(jobs)
    monkeypatch.setattr(case_steps, "is_large", lambda *_: True)
    Batch(model, tmp_path / "slabs", Options(tta=True)).run(jobs)
    once, whole, slabs = ((tmp_path / name / "masks/a.nii.gz").read_bytes() for name in ("once", "whole", "slabs"))
    assert whole == slabs != once


def test_large_volumes_are_recognized_by_their_estimated_memory():
    assert not is_large(182 * 218 * 182, 4, 2)
    assert is_large(512 * 512 * 600, 1, 3)
    assert is_large(512 * 512 * 100, 1, 30)
