"""From logits on the prepared grid back to a mask on the grid of the user's file."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.transforms import SpatialResample
from torch import nn

from pipeline.data.plan import Plan
from pipeline.network.convolutions import convolutions
from pipeline.network.cuda_graphs import GraphedInferer
from pipeline.network.precision import Precision, autocast

WINDOW_OVERLAP = 0.25


class AutocastInferer(Inferer):
    """Run another inferer under autocast and return float32 logits.

    MONAI's engines know autocast for CUDA only; this one serves every device.
    """

    def __init__(self, inferer: Inferer, precision: Precision, device: torch.device) -> None:
        super().__init__()
        self.inferer, self.precision, self.device = inferer, precision, device

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return logits (B, C, *S) float32 of inputs (B, channels, *S)."""

        def predict(window: torch.Tensor) -> torch.Tensor:
            with autocast(self.precision, self.device), convolutions(window, self.precision):
                return network(window)

        return self.inferer(inputs, predict, *args, **kwargs).float()


@contextmanager
def training_inferer(
    network: nn.Module, shape: tuple[int, ...], precision: Precision, device: torch.device
) -> Iterator[Inferer]:
    """Give the inferer of training steps of a network: a whole batch (B, C, *patch) of `shape` at once."""
    if device.type != "cuda":
        yield AutocastInferer(SimpleInferer(), precision, device)
        return
    graphed = GraphedInferer(network, shape, precision, device)
    try:
        yield graphed
    finally:
        graphed.release()


def sliding_inferer(plan: Plan, precision: Precision, device: torch.device) -> Inferer:
    """Return MONAI's sliding-window inferer over the plan's windows, blended by a Gaussian."""
    inner = SlidingWindowInferer(
        plan.inference_window,
        sw_batch_size=plan.batch,
        overlap=WINDOW_OVERLAP,
        mode="gaussian",
        padding_mode="constant",
    )
    return AutocastInferer(inner, precision, device)


def to_original_grid(
    probabilities: torch.Tensor, affine: np.ndarray, shape: tuple[int, ...], original_affine: np.ndarray
) -> np.ndarray:
    """Return probabilities (C, X, Y, Z) of a prepared grid on the original grid (C, *shape), float32.

    Axes are permuted and flipped without interpolation; only a different spacing, which the preparation introduced,
    is resampled (linearly, before any decision between classes).
    """
    start = nib.orientations.io_orientation(affine)
    end = nib.orientations.io_orientation(original_affine)
    turn = nib.orientations.ornt_transform(start, end)
    turned = np.stack([nib.orientations.apply_orientation(channel, turn) for channel in probabilities.cpu().numpy()])
    turned_affine = affine @ nib.orientations.inv_ornt_aff(turn, probabilities.shape[1:])
    if turned.shape[1:] == tuple(shape) and np.allclose(turned_affine, original_affine, atol=1e-3):
        return np.ascontiguousarray(turned)
    from monai.data import MetaTensor

    source = MetaTensor(torch.from_numpy(np.ascontiguousarray(turned)), affine=torch.from_numpy(turned_affine))
    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=np.float32)
    result = resample(source, dst_affine=torch.from_numpy(np.asarray(original_affine)), spatial_size=shape)
    return np.asarray(result)


def write_mask(path: Path, mask: np.ndarray, affine: np.ndarray) -> None:
    """Write label values (X, Y, Z) as NIfTI, whole or not at all."""
    from pipeline.system.files import atomic_path

    dtype = np.uint8 if mask.max(initial=0) < 256 else np.int16
    image = nib.Nifti1Image(mask.astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
