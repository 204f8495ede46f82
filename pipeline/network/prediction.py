"""Inferers for training and prediction, and the way from probabilities to a mask on the grid of the user's file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from monai.transforms import SpatialResample
from numpy.typing import NDArray
from torch import nn
from torch.overrides import TorchFunctionMode

from pipeline.data.plan import Plan
from pipeline.network.cuda_graphs import CudaGraphInferer, capture_obstacle
from pipeline.network.deep_supervision import as_float32
from pipeline.network.network_noise import NoiseInferer
from pipeline.network.precision import Precision, autocast

WINDOW_OVERLAP = 0.25
"""Overlap of neighboring windows, as a share of the window's edge."""


class AutocastInferer(Inferer):
    """Run another inferer under autocast and return float32 logits.

    MONAI's engines support autocast on CUDA only; this inferer supports every device.

    Parameters
    ----------
    inferer
        Splits the input into windows (B, C, *S) and calls the network on each.
    precision
        Number format of the network's forward pass.
    device
        Device of the network and of the windows.
    """

    def __init__(self, inferer: Inferer, precision: Precision, device: torch.device) -> None:
        super().__init__()
        self.inferer, self.precision, self.device = inferer, precision, device

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return logits (B, K, *S) float32 of inputs (B, C, *S), or a tuple of them in several resolutions."""

        def predict(window: torch.Tensor) -> torch.Tensor:
            with autocast(self.precision, self.device), _fast_single_window(window, self.precision):
                return network(window)

        return as_float32(self.inferer(inputs, predict, *args, **kwargs))


def _fast_single_window(window: torch.Tensor, precision: Precision) -> AbstractContextManager[object]:
    """Return the context in which a single float32 window (1, C, *S) on a CPU is predicted fastest."""
    single = len(window) == 1 and window.device.type == "cpu" and not torch.is_grad_enabled()
    helps = single and precision == "float32" and torch.backends.mkldnn.is_available()
    return _OneDnnConvolutions() if helps else nullcontext()


class _OneDnnConvolutions(TorchFunctionMode):
    """Carry out the float32 convolutions of `nn.Conv3d` with oneDNN.

    For one window whose channels x depth x height are at most 20,480, PyTorch prefers its own convolution (`use_mkldnn`
    in ``aten/src/ATen/native/Convolution.cpp``). That makes the prediction of a small volume two to four times slower.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # `nn.Conv3d` passes all arguments by position. Padding given as a string is left to PyTorch.
        if func is torch.conv3d and len(args) == 7 and not isinstance(args[4], str):
            window, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(window, weight, bias, padding, stride, dilation, groups)
        return func(*args, **(kwargs or {}))


@contextmanager
def training_inferer(
    network: nn.Module,
    shape: tuple[int, ...],
    precision: Precision,
    device: torch.device,
    noise_seed: Callable[[], int] = lambda: 0,
) -> Iterator[Inferer]:
    """Provide the inferer of a network's training steps, which takes a whole batch at once.

    Parameters
    ----------
    network
        The network to train, on `device`.
    shape
        Shape (B, C, *patch) of every batch.
    precision
        Number format of the forward pass.
    device
        On CUDA forward and backward pass are CUDA graphs, if the network permits it; their memory is freed at the end
        of the context.
    noise_seed
        Returns the seed of the noise of a step, such as that of dropout.
    """
    obstacle = capture_obstacle(network)
    if obstacle or device.type != "cuda":
        eager = AutocastInferer(SimpleInferer(), precision, device)
        # A network that can be captured draws no random numbers.
        yield NoiseInferer(eager, noise_seed, device) if obstacle else eager
        return
    graphed = CudaGraphInferer(network, shape, precision, device)
    try:
        yield graphed
    finally:
        graphed.release()


def sliding_inferer(plan: Plan, precision: Precision, device: torch.device) -> Inferer:
    """Return MONAI's sliding-window inferer over the plan's windows, blended by a Gaussian.

    It maps images (B, C, X, Y, Z) to float32 logits (B, K, X, Y, Z).
    """
    inner = SlidingWindowInferer(
        plan.inference_window,
        sw_batch_size=plan.batch,
        overlap=WINDOW_OVERLAP,
        mode="gaussian",
        padding_mode="constant",
    )
    return AutocastInferer(inner, precision, device)


def to_original_grid(
    probabilities: torch.Tensor,
    affine: NDArray[np.floating],
    shape: tuple[int, ...],
    original_affine: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Return probabilities on the grid of the original file.

    Axes are permuted and flipped without interpolation. Only a spacing that the preparation changed is resampled,
    linearly, and before any class is chosen, so that no class is favored.

    Parameters
    ----------
    probabilities
        Probabilities (C, X, Y, Z) on the prepared grid.
    affine
        Affine (4, 4) of the prepared grid, from voxels to mm.
    shape
        Shape of the original grid, three edges in voxels.
    original_affine
        Affine (4, 4) of the original grid, from voxels to mm.

    Returns
    -------
    ndarray
        Probabilities (C, *shape) float32.

    Examples
    --------
    A volume that was flipped along its first axis is flipped back:

    >>> import numpy as np, torch
    >>> from pipeline.network.prediction import to_original_grid
    >>> flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    >>> flipped[0, 3] = 2.0
    >>> ramp = torch.arange(3.0).reshape(1, 3, 1, 1)
    >>> to_original_grid(ramp, np.eye(4), (3, 1, 1), flipped).ravel().tolist()
    [2.0, 1.0, 0.0]
    """
    start = nib.orientations.io_orientation(affine)
    end = nib.orientations.io_orientation(original_affine)
    reorientation = nib.orientations.ornt_transform(start, end)
    channels = [nib.orientations.apply_orientation(channel, reorientation) for channel in probabilities.cpu().numpy()]
    reoriented = np.ascontiguousarray(np.stack(channels))
    reoriented_affine = affine @ nib.orientations.inv_ornt_aff(reorientation, probabilities.shape[1:])
    if reoriented.shape[1:] == tuple(shape) and np.allclose(reoriented_affine, original_affine, atol=1e-3):
        return reoriented
    from monai.data import MetaTensor

    source = MetaTensor(torch.from_numpy(reoriented), affine=torch.from_numpy(reoriented_affine))
    resample = SpatialResample(mode="bilinear", padding_mode="border", dtype=np.float32)
    return np.asarray(resample(source, dst_affine=torch.from_numpy(np.asarray(original_affine)), spatial_size=shape))


def write_mask(path: Path, mask: NDArray[np.integer], affine: NDArray[np.floating]) -> None:
    """Write label values (X, Y, Z) as NIfTI, whole or not at all.

    Values below 256 are stored as uint8, larger ones as int16.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from pipeline.system.files import atomic_path

    dtype = np.uint8 if mask.max(initial=0) < 256 else np.int16
    image = nib.Nifti1Image(mask.astype(dtype), affine)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
