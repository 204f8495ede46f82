"""Optimizers by name or import path, and the learning rates that are tried with each."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.system.call_grammar import CallGrammar, call_text
from pipeline.system.import_path import import_class
from pipeline.training.learning_rate import CANDIDATES, DEFAULT_RATE
from pipeline.training.optimizer import OPTIMIZER, WEIGHT_DECAY

GRAMMAR = CallGrammar("--optimizer", "an optimizer", "sgd{momentum=0.9}")

RATE_FACTOR = 3.0
"""Ratio of neighboring candidates around the default learning rate of a class named by import path."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates that the search tries.

    Attributes
    ----------
    candidates
        The rates, as many for every named optimizer, so that all get the same search effort.
    default
        The candidate nearest to this rate is the fallback, and wins ties.
    """

    candidates: tuple[float, ...] = CANDIDATES
    default: float = DEFAULT_RATE


@dataclass(frozen=True, slots=True)
class NamedOptimizer:
    """An optimizer with a name of our own: its class, the arguments that differ from torch's, and its rates."""

    target: str
    arguments: Mapping[str, Any]
    rates: Rates


OPTIMIZERS = {
    "muon": NamedOptimizer("pipeline.training.optimizer.MuonAdamW", {}, Rates()),
    "adamw": NamedOptimizer(
        "torch.optim.AdamW", {"weight_decay": WEIGHT_DECAY, "fused": True}, Rates((1e-3, 3e-3, 8e-3), 3e-3)
    ),
    "sgd": NamedOptimizer(
        "torch.optim.SGD",
        {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5},
        Rates((3e-3, 1e-2, 3e-2), 1e-2),
    ),
    "adam": NamedOptimizer("torch.optim.Adam", {"fused": True}, Rates((1e-4, 3e-4, 1e-3), 1e-4)),
}
"""Optimizers by name. ``sgd`` is nnU-Net's, and ``adam`` that of MONAI's tutorials."""


@dataclass(frozen=True, slots=True)
class OptimizerChoice:
    """An optimizer by name or import path, with arguments.

    Attributes
    ----------
    name
        A name of `OPTIMIZERS`, or the import path of a subclass of ``torch.optim.Optimizer``.
    arguments
        Arguments of the class but for the weights and the learning rate; they replace those of `OPTIMIZERS`.

    Examples
    --------
    >>> from pipeline.training.optimizer_choice import OptimizerChoice
    >>> choice = OptimizerChoice.parse("sgd{momentum=0.9}")
    >>> choice.text, choice.rates.candidates
    ('sgd{momentum=0.9}', (0.003, 0.01, 0.03))
    >>> choice.definition
    'torch.optim.SGD{momentum=0.9,nesterov=true,weight_decay=3e-05}'
    """

    name: str = "muon"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> "OptimizerChoice":
        """Return the optimizer that a text names, after a trial step with it.

        Raises
        ------
        ConfigError
            If the text is malformed, or the optimizer is unknown or cannot be used.
        """
        choice = OptimizerChoice(*GRAMMAR.parse(text))
        if choice.name not in OPTIMIZERS and "." not in choice.name and ":" not in choice.name:
            raise ConfigError(
                f"--optimizer {choice.name}",
                "is an unknown optimizer",
                f"use {', '.join(OPTIMIZERS)}, or an import path such as torch.optim.RMSprop",
            )
        choice.try_step()
        return choice

    @property
    def text(self) -> str:
        """The text that `parse` reads as this optimizer."""
        return call_text(self.name, self.arguments)

    @property
    def description(self) -> str:
        """The optimizer in a study's settings."""
        return OPTIMIZER if self == OptimizerChoice() else self.text

    @property
    def definition(self) -> str:
        """Import path and all arguments, for a hash that changes with a default of `OPTIMIZERS`."""
        return call_text(self._target, self._all_arguments)

    @property
    def rates(self) -> Rates:
        """Learning rates of the search: those of the class in `OPTIMIZERS`, else around the default of the class."""
        if self.name in OPTIMIZERS:
            return OPTIMIZERS[self.name].rates
        found = self._class()
        for named in OPTIMIZERS.values():
            if import_class(named.target, "--optimizer") is found:
                return named.rates
        rate = inspect.signature(found).parameters["lr"].default
        if not isinstance(rate, float):
            raise ConfigError(
                f"--optimizer {self.text}", "has no default learning rate", "give candidates with --learning-rates"
            )
        return Rates((rate / RATE_FACTOR, rate, rate * RATE_FACTOR), rate)

    def fallback_rate(self, candidates: Sequence[float]) -> float:
        """Return the rate near which a search over `candidates` prefers one of them, and falls back to it.

        It is the default of `rates`, or the middle candidate for a class without a default learning rate.
        """
        try:
            return self.rates.default
        except ConfigError:
            return sorted(candidates)[len(candidates) // 2]

    def build(self, parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
        """Return the optimizer of some weights.

        Raises
        ------
        ConfigError
            If its arguments do not fit.
        """
        arguments = self._all_arguments
        if "lr" in arguments:
            raise ConfigError(
                f"--optimizer {self.text}", "must not set the learning rate", "give it with --learning-rates"
            )
        name = "learning_rate" if self.name == "muon" else "lr"
        try:
            optimizer: torch.optim.Optimizer = self._class()(parameters, **{name: rate}, **arguments)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--optimizer {self.text}", f"could not be built ({error})", "check its arguments"
            ) from error
        return optimizer

    def try_step(self) -> None:
        """Take a step with a weight of every kind, to refuse an optimizer before any training.

        Raises
        ------
        ConfigError
            If the optimizer cannot be built or cannot take a step.
        """
        weights = [nn.Parameter(torch.ones(shape)) for shape in ((8, 8, 3, 3, 3), (2, 4, 1, 1, 1), (4,))]
        optimizer = self.build(weights, 1e-3)
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        try:
            optimizer.step()
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"--optimizer {self.text}", f"cannot train a network ({error})", "use another optimizer"
            ) from error

    @property
    def _target(self) -> str:
        return OPTIMIZERS[self.name].target if self.name in OPTIMIZERS else self.name.replace(":", ".")

    @property
    def _all_arguments(self) -> dict[str, Any]:
        known = OPTIMIZERS[self.name].arguments if self.name in OPTIMIZERS else {}
        return {**known, **self.arguments}

    def _class(self) -> type:
        found = import_class(self._target, "--optimizer")
        if not issubclass(found, torch.optim.Optimizer):
            raise ConfigError(f"--optimizer {self.name}", "is not an optimizer", "name a class of torch.optim")
        if issubclass(found, torch.optim.LBFGS):
            raise ConfigError(f"--optimizer {self.name}", "evaluates the loss several times per step", "use another")
        return found
