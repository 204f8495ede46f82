"""A trial of a network: whether it accepts a patch and returns logits, and the memory of a training step.

Trials run on torch's device ``meta``, which computes shapes but no values. A network that this device does not support
is run on the CPU.
"""

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.errors import is_out_of_memory
from pipeline.network.full_resolution import FINAL_OUTPUT, select_logits
from pipeline.network.network_class import META, create, create_on_meta, first_line
from pipeline.network.network_noise import seeded_generators
from pipeline.network.network_spec import NetworkSpec

COPIES_OF_WEIGHTS = 5
"""Weights, gradients, two states of an optimizer, and the average of the weights."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Result of a training step and a prediction without values.

    Attributes
    ----------
    problem
        Why the network cannot be used, or "".
    depends_on_patch
        True if another patch may solve the problem.
    step_bytes
        Memory of a training step in float32: weights with their states, and what the backward pass needs.
    weights
        Number of weights.
    is_plain
        True if training and prediction return logits as a tensor of its own.
    """

    problem: str = ""
    depends_on_patch: bool = False
    step_bytes: int = 0
    weights: int = 0
    is_plain: bool = True


def try_network(spec: NetworkSpec, arguments: Mapping[str, Any], shape: Sequence[int], classes: int) -> Trial:
    """Run a training step and a prediction of a network and describe them.

    Parameters
    ----------
    spec
        The network.
    arguments
        All arguments of its class.
    shape
        Shape (B, C, *patch) of the input.
    classes
        Classes, including the background.

    Raises
    ------
    ConfigError
        If the network cannot be built.
    """
    network = create_on_meta(spec, arguments)
    with warnings.catch_warnings(), seeded_generators(0):
        warnings.simplefilter("ignore")
        return try_module(network, shape, classes, lambda: create(spec, arguments), name=spec.name)


def try_module(
    network: nn.Module,
    shape: Sequence[int],
    classes: int,
    on_cpu: Callable[[], nn.Module] | None = None,
    name: str = "",
) -> Trial:
    """Run a training step and a prediction of a network on ``meta``, or on the CPU if that is not possible.

    Parameters
    ----------
    network
        Network on ``meta``.
    shape
        Shape (B, C, *patch) of the input.
    classes
        Classes, including the background.
    on_cpu
        Returns the network on the CPU.
    name
        Name of its class.
    """
    inputs = _required_inputs(network)
    if len(inputs) != 1:
        needed = f"needs other inputs than an image ({', '.join(inputs[1:])})" if inputs else "takes no image"
        return Trial(needed)
    try:
        return _steps(network, shape, classes, name)
    except Exception as error:  # networks raise anything on an input that they do not accept
        if on_cpu is None or not _may_be_due_to_meta(error):
            return _failure(error)
    try:
        return _steps(on_cpu(), shape, classes, name)
    except Exception as error:
        return _failure(error)


class _RandomDraws(TorchDispatchMode):
    """Count the random numbers that are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self.count += torch.Tag.nondeterministic_seeded in func.tags
        return func(*args, **(kwargs or {}))


def _steps(network: nn.Module, shape: Sequence[int], classes: int, name: str) -> Trial:
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else META
    image = torch.zeros(tuple(shape), device=device)
    logits_shape = (shape[0], classes, *shape[2:])
    in_training, in_prediction = FINAL_OUTPUT.get(name, (None, None))
    saved = _SavedMemory(parameters)
    with torch.autograd.graph.saved_tensors_hooks(saved.add, lambda tensor: tensor):
        output = network.train()(image)
    logits, problem = select_logits(output, logits_shape, in_training)
    if logits is None:
        return Trial(problem, depends_on_patch=_is_another_shape(output, logits_shape))
    if logits.requires_grad is False:
        return Trial("returns logits without gradients")
    training_is_plain = logits is output
    # The last windows of a volume may be a batch of one, which some normalizations refuse at a single voxel.
    with torch.no_grad(), _RandomDraws() as draws:
        output = network.eval()(image[:1])
    logits, problem = select_logits(output, (1, *logits_shape[1:]), in_prediction)
    if logits is None:
        return Trial(f"{problem} in prediction")
    if draws.count:
        return Trial("draws random numbers in prediction, so that its masks would differ each time")
    weights = sum(parameter.numel() for parameter in parameters)
    return Trial(
        step_bytes=saved.bytes + 4 * COPIES_OF_WEIGHTS * weights,
        weights=weights,
        is_plain=training_is_plain and logits is output,
    )


class _SavedMemory:
    """Sum the bytes of the tensors that autograd saves for the backward pass, without weights."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.seen = {parameter.untyped_storage()._cdata for parameter in parameters}
        self.bytes = 0
        # A storage that is freed may leave its address to another one.
        self.alive: list[torch.Tensor] = []

    def add(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen.add(storage._cdata)
            self.alive.append(tensor.detach())
            self.bytes += storage.nbytes()
        return tensor


def _required_inputs(network: nn.Module) -> list[str]:
    """Return the names of the inputs that the forward pass requires."""
    parameters = inspect.signature(network.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in positional and p.default is p.empty]
    several = [p.name for p in parameters if p.kind in positional or p.kind is p.VAR_POSITIONAL]
    return names or several[:1]


def _may_be_due_to_meta(error: BaseException) -> bool:
    """Return whether torch may lack an operator on ``meta``, which it reports as ``NotImplementedError`` or by name."""
    return isinstance(error, NotImplementedError) or "meta" in str(error).lower()


def _failure(error: BaseException) -> Trial:
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return Trial(f"runs out of memory ({first_line(error)})")
    by_shape = isinstance(error, RuntimeError | ValueError | AssertionError | IndexError | ZeroDivisionError)
    return Trial(f"fails ({first_line(error)})", depends_on_patch=by_shape)


def _is_another_shape(output: object, shape: Sequence[int]) -> bool:
    """Return whether an output is logits of other resolutions than the input."""
    every = output if isinstance(output, list | tuple) else [output]
    return all(
        isinstance(one, torch.Tensor)
        and one.ndim == len(shape)
        and one.shape[:2] == tuple(shape[:2])
        and one.shape != tuple(shape)
        for one in every
    )
