import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import SimpleInferer
from monai.networks.nets import DynUNet
from torch.profiler import ProfilerActivity, profile

from pipeline.training.inference import AutocastInferer, to_original_grid, write_mask

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
def test_a_single_window_is_convolved_by_one_dnn_alone():
    torch.manual_seed(0)
    network = DynUNet(3, 1, 3, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], norm_name="instance").eval()
    window = torch.rand(1, 1, 16, 24, 16)
    inferer = AutocastInferer(SimpleInferer(), "float32", torch.device("cpu"))
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as found:
        logits = inferer(window, network)
    with torch.no_grad():
        expected = network(window)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    names = {event.key for event in found.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not any("slow_conv3d" in name for name in names)


def test_a_convolution_that_is_to_be_differentiated_stays_with_autograd():
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    inferer = AutocastInferer(SimpleInferer(), "float32", torch.device("cpu"))
    inferer(torch.rand(1, 1, 8, 8, 8), network).sum().backward()
    assert network.weight.grad is not None
    assert bool(network.weight.grad.any())
