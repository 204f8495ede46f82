import torch
from torch import nn

from pipeline.network.weights_hash import weights_hash


class Wrapper(nn.Module):
    """Renames weights as `DistributedDataParallel` does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_wrappers_do_not_change_the_hash() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True))
    expected = weights_hash(network)
    assert weights_hash(torch.compile(network)) == expected
    assert weights_hash(Wrapper(network)) == expected
    assert weights_hash(Wrapper(torch.compile(network))) == expected


def test_every_weight_counts() -> None:
    network = nn.Linear(2, 2)
    before = weights_hash(network)
    with torch.no_grad():
        network.bias[1] += 1e-3
    assert weights_hash(network) != before
