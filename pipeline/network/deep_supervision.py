"""Logits of several resolutions, which a network with deep supervision returns in training."""

from collections.abc import Sequence

import torch
from torch import nn

Outputs = torch.Tensor | tuple[torch.Tensor, ...]
"""Logits (B, K, *patch), or a tuple of logits from full resolution downwards."""

_FLAG = "returns_all_resolutions_in_training"


def return_all_resolutions(network: nn.Module) -> None:
    """Let a network of `pipeline.network.named_network` return all its logits in training; the network is changed.

    In evaluation it still returns those at full resolution alone, and so does a network without other logits.
    """
    setattr(network, _FLAG, True)


def returns_all_resolutions(network: nn.Module) -> bool:
    """Return whether a network returns all its logits in its present mode."""
    return network.training and getattr(network, _FLAG, False)


def all_resolutions(output: object, shape: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """Return the logits of an output from full resolution downwards; an empty tuple if it is something else.

    Parameters
    ----------
    output
        A sequence of logits (B, K, *S), or a stack of them (B, N, K, *S).
    shape
        Shape (B, K, *patch) of the logits at full resolution.

    Examples
    --------
    >>> import torch
    >>> from pipeline.network.deep_supervision import all_resolutions
    >>> coarse, fine = torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 8, 8, 8)
    >>> [len(logits[0, 0]) for logits in all_resolutions([coarse, fine], (1, 2, 8, 8, 8))]
    [8, 4]
    """
    if isinstance(output, torch.Tensor):
        output = output.unbind(1) if output.ndim == len(shape) + 1 else ()
    if not isinstance(output, list | tuple):
        return ()
    same = all(
        isinstance(one, torch.Tensor) and one.ndim == len(shape) and one.shape[:2] == tuple(shape[:2]) for one in output
    )
    found = tuple(sorted(output, key=lambda logits: logits.numel(), reverse=True)) if same else ()
    return found if found and found[0].shape == tuple(shape) else ()


def full_resolution(output: Outputs) -> torch.Tensor:
    """Return the logits at full resolution, those that a prediction would consist of."""
    return output if isinstance(output, torch.Tensor) else output[0]


def as_float32(output: Outputs) -> Outputs:
    """Return the output of a network in float32."""
    return output.float() if isinstance(output, torch.Tensor) else tuple(logits.float() for logits in output)
