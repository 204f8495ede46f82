import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import DynUNet

from pipeline.network.sliding_window import sliding_scores, sliding_slabs

PATCH = (16, 24, 16)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DynUNet(
        3,
        2,
        3,
        [3, 3, 3],
        [1, 2, 2],
        [2, 2],
        filters=[4, 8, 8],
        norm_name=("INSTANCE", {"affine": True}),
        act_name="leakyrelu",
    ).eval()


@pytest.mark.parametrize("size", [(50, 41, 37), (10, 30, 9), (16, 24, 16), (17, 24, 40), (5, 5, 5)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_stitched_as_it_goes_equals_monai_bit_for_bit(network, size, overlap):
    image = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    image[:, :20, :26] = 0
    with torch.inference_mode():
        expected = SlidingWindowInferer(PATCH, 1, overlap, mode="gaussian", padding_mode="constant")(
            image[None], network
        )
    torch.testing.assert_close(sliding_scores(image, network, PATCH, overlap), expected[0], rtol=0, atol=0)


def test_more_windows_at_once_differ_by_rounding_alone(network):
    image = torch.randn(2, 40, 41, 37, generator=torch.Generator().manual_seed(1))
    one, three = (sliding_scores(image, network, PATCH, 0.25, batch) for batch in (1, 3))
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


def test_windows_of_air_are_predicted_once(network):
    image = torch.full((2, 64, 72, 64), -3.0)
    image[:, :10, :10, :10] = torch.randn(2, 10, 10, 10, generator=torch.Generator().manual_seed(1))
    seen = []

    def predict(windows):
        seen.append(len(windows))
        return network(windows)

    sliding_scores(image, predict, PATCH, 0.25, 1)
    assert sum(seen) == 2


def test_only_a_slab_is_held(network):
    image = torch.zeros(2, 100, 30, 20)
    slabs = [(start, scores.shape) for start, scores in sliding_slabs(image, network, PATCH, 0.25)]
    assert [start for start, _ in slabs] == [0, 12, 24, 36, 48, 60, 72, 84]
    assert all(shape[1] <= 16 for _, shape in slabs)
    assert sum(shape[1] for _, shape in slabs) == 100
