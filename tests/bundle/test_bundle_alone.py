"""The bundle where this package is not installed."""

import subprocess

import nibabel as nib
import numpy as np
import pytest

from pipeline.bundle.model import load_model
from pipeline.bundle.testvector import predict


def run(python, *arguments, cwd):
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(cwd)}
    return subprocess.run(
        [python, "-W", "ignore", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )


def test_the_environment_lacks_this_package_and_scikit_image(python_without_pipeline, tmp_path):
    for name in ("pipeline", "skimage", "scipy", "mlflow", "safetensors"):
        assert "ModuleNotFoundError" in run(python_without_pipeline, "-c", f"import {name}", cwd=tmp_path).stderr


@pytest.mark.parametrize("kind", ["bundle", "ensemble"])
def test_monai_alone_writes_the_same_masks_voxel_for_voxel(
    kind, request, python_without_pipeline, tiny_dataset, tmp_path
):
    root = request.getfixturevalue(kind)
    images, masks = tiny_dataset / "imagesTr", tmp_path / "masks"
    result = run(
        python_without_pipeline, "-m", "monai.bundle", "run", "--config_file", str(root / "configs/inference.json"),
        "--bundle_root", str(root), "--dataset_dir", str(images), "--output_dir", str(masks), cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    model = load_model(root)
    found = sorted(images.glob("*.nii.gz"))
    assert len(found) == 4
    for path in found:
        mask, _ = predict(model, [path])
        written = nib.load(masks / path.name.replace(".nii.gz", "_seg.nii.gz"))
        assert written.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(written.dataobj), mask)
        assert np.allclose(written.affine, nib.load(path).affine)
