"""Random numbers of networks: initial weights, and noise such as dropout, from streams of their own."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer


@contextmanager
def seeded_generators(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python inside the context, and restore them at its end.

    Parameters
    ----------
    seed
        Seed, e.g. from `pipeline.system.random_streams.derived_seed`.
    device
        A device whose generator is used too.
    """
    # Networks that draw from NumPy use its global generator, which has no other interface than the old one.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    on_gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class NoiseInferer(Inferer):
    """Run another inferer with generators that are seeded anew for each call.

    The noise of a step depends on its seed alone. So it is the same for all losses of a fold and seed, and a training
    that continues from a checkpoint draws what an uninterrupted one does, although no generator's state is stored.

    Parameters
    ----------
    inferer
        Inferer of the training steps.
    seed
        Returns the seed of the present step.
    device
        Device of the network.
    """

    def __init__(self, inferer: Inferer, seed: Callable[[], int], device: torch.device) -> None:
        super().__init__()
        self.inferer, self.seed, self.device = inferer, seed, device

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what the inner inferer returns."""
        with seeded_generators(self.seed(), self.device):
            return self.inferer(inputs, network, *args, **kwargs)
