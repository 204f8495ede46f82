"""The logits at full resolution among the outputs of a network with deep supervision."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.deep_supervision import Outputs, all_resolutions, returns_all_resolutions

FINAL_OUTPUT = {"BasicUNetPlusPlus": (-1, -1), "DAF3D": (-1, 0)}
"""Index of the final output, in training and in prediction, of networks with several outputs at full resolution."""


def return_full_resolution(network: nn.Module, name: str, classes: int) -> nn.Module:
    """Let a network return its logits (B, `classes`, *patch) alone.

    A hook selects them, so that class and weights stay as they are. From then on the network raises `ConfigError` if it
    returns no such logits. `pipeline.network.deep_supervision.return_all_resolutions` makes an exception for training.
    """
    network.register_forward_hook(partial(_hook, name=name, classes=classes))
    return network


def _hook(module: nn.Module, inputs: Sequence[torch.Tensor], output: object, *, name: str, classes: int) -> Outputs:
    shape = (len(inputs[0]), classes, *inputs[0].shape[2:])
    if isinstance(output, torch.Tensor) and output.shape == shape:
        return output
    if returns_all_resolutions(module) and (resolutions := all_resolutions(output, shape)):
        return resolutions
    logits, problem = select_logits(output, shape, FINAL_OUTPUT.get(name, (None, None))[not module.training])
    if logits is None:
        raise ConfigError(f"--network {name}", problem, "give a network that returns logits of its input's shape")
    return logits


def select_logits(output: object, shape: tuple[int, ...], final: int | None = None) -> tuple[torch.Tensor | None, str]:
    """Return the logits of `shape` among the outputs of a network, or None and what it returns instead.

    Parameters
    ----------
    output
        Logits (B, K, *patch), a stack (B, N, K, *patch) whose first is at full resolution as `DynUNet` returns it, or
        a sequence of logits of several resolutions.
    shape
        Shape (B, K, *patch) of the logits.
    final
        Index of the logits if several of them have this shape.

    Examples
    --------
    >>> import torch
    >>> from pipeline.network.full_resolution import select_logits
    >>> coarse, fine = torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 8, 8, 8)
    >>> select_logits([coarse, fine], (1, 2, 8, 8, 8))[0] is fine
    True
    >>> select_logits((fine, torch.zeros(())), (1, 2, 8, 8, 8))[1]
    'returns a scalar beside logits, which would be ignored'
    """
    if isinstance(output, torch.Tensor):
        if output.shape == shape:
            return output, ""
        if output.ndim == len(shape) + 1 and (*output.shape[:1], *output.shape[2:]) == shape:
            return output[:, 0], ""
        return None, f"returns {_kind(output)}, not logits {_edges(shape)}"
    if not isinstance(output, Sequence) or isinstance(output, str):
        return None, f"returns {_kind(output)}, not logits"
    if not output:
        return None, "returns nothing"
    others = [item for item in output if not _is_logits(item, shape)]
    if others:
        beside = " beside logits, which would be ignored" if len(others) < len(output) else ", not logits"
        return None, f"returns {_kind(others[0])}{beside}"
    full = [item for item in output if item.shape == shape]
    if not full:
        return None, f"returns {_kind(output[0])}, not logits {_edges(shape)}"
    if len(full) > 1 and final is None:
        return None, f"returns {len(full)} tensors of logits at full resolution"
    return full[0 if final is None else final], ""


def _is_logits(item: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(item, torch.Tensor) and item.ndim == len(shape) and item.shape[:2] == shape[:2]


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return _edges(value.shape) if value.ndim else "a scalar"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"


def _edges(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
