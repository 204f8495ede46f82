import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from torch.profiler import ProfilerActivity, profile

from pipeline.network.prediction import AutocastInferer, to_original_grid, write_mask

CPU = torch.device("cpu")

ALL_ORIENTATIONS = [
    "".join(code) for axes in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*axes)
]


@pytest.mark.parametrize("code", ALL_ORIENTATIONS)
def test_every_orientation_comes_back_voxel_for_voxel(code):
    random = np.random.default_rng(0)
    ras = nib.Nifti1Image(random.random((5, 6, 7), dtype=np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(ras.affine), nib.orientations.axcodes2ornt(tuple(code)))
    original = ras.as_reoriented(turn)
    back = to_original_grid(
        torch.from_numpy(np.asarray(ras.dataobj))[None], ras.affine, original.shape, original.affine
    )
    np.testing.assert_array_equal(back[0], np.asarray(original.dataobj))


def test_another_spacing_is_resampled_onto_the_same_places():
    fine = np.diag([1.0, 1.0, 1.0, 1.0])
    coarse = np.diag([2.0, 2.0, 2.0, 1.0])
    ramp = torch.arange(16.0)[:, None, None].expand(16, 16, 16)[None].contiguous()
    back = to_original_grid(ramp, fine, (8, 8, 8), coarse)
    np.testing.assert_allclose(back[0, :, 0, 0], 2 * np.arange(8.0), atol=1e-3)


def test_masks_are_written_with_the_affine_of_the_original(tmp_path):
    affine = np.array([[-1.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    mask = np.zeros((4, 5, 6), np.int16)
    mask[1, 2, 3] = 2
    write_mask(tmp_path / "a.nii.gz", mask, affine)
    loaded = nib.load(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(loaded.dataobj), mask)
    np.testing.assert_array_equal(loaded.affine, affine)
    assert loaded.get_data_dtype() == np.uint8


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("padding", [1, "same"])
def test_a_single_window_in_float32_is_predicted_as_pytorch_does_but_by_onednn(padding):
    network, window = torch.nn.Conv3d(8, 4, 3, padding=padding), torch.rand(1, 8, 8, 6, 8)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        logits = AutocastInferer(SimpleInferer(), "float32", CPU)(window, network)
    names = {event.key for event in profiled.key_averages()}
    assert ("aten::mkldnn_convolution" in names and "aten::slow_conv3d" not in names) == (padding == 1)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(window), rtol=1e-4, atol=1e-5)


def test_a_single_window_in_float32_can_be_differentiated():
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    AutocastInferer(SimpleInferer(), "float32", CPU)(torch.rand(1, 1, 8, 8, 8), network).sum().backward()
    assert bool(network.weight.grad.any())
