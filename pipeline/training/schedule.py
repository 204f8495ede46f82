"""Learning-rate schedules by name or import path, each built from the optimizer, the largest rate and the steps."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from pipeline.errors import ConfigError
from pipeline.system.call_grammar import CallGrammar, call_text
from pipeline.system.import_path import import_class
from pipeline.training.warmup_stable_decay import WARM_UP_SHARE

GRAMMAR = CallGrammar("--schedule", "a schedule", "polynomial{power=0.9}")

SCHEDULE = "one cycle"
"""Name of the default schedule in a study's settings."""

SHARED_SCHEDULE = "warm-up, constant, decay"
"""Name of the schedule that all budgets of a study share, in its settings."""

SCHEDULES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "one_cycle": ("torch.optim.lr_scheduler.OneCycleLR", {"pct_start": WARM_UP_SHARE}),
    "polynomial": ("torch.optim.lr_scheduler.PolynomialLR", {"power": 0.9}),
    "warmup_stable_decay": ("pipeline.training.warmup_stable_decay.WarmupStableDecay", {}),
    "constant": ("torch.optim.lr_scheduler.ConstantLR", {"factor": 1.0}),
}
"""Class and arguments of each schedule by name. ``polynomial`` is nnU-Net's."""

FORKABLE = "warmup_stable_decay"
"""The schedule of a training from which shorter ones are forked."""

LENGTHS = ("total_steps", "total_iters", "T_max", "max_steps")
"""Parameters of schedules that are set to the steps of the training, unless the user gives them."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A learning-rate schedule by name or import path, with arguments; it holds no state of a training.

    Attributes
    ----------
    name
        A name of `SCHEDULES`, or the import path of a schedule of ``torch.optim.lr_scheduler``.
    arguments
        Arguments of the class. Those in `LENGTHS` are the steps of the training, and ``max_lr`` is its learning rate,
        unless they are given.

    Examples
    --------
    >>> import torch
    >>> from pipeline.training.schedule import Schedule
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    >>> schedule = Schedule.parse("polynomial{power=1}").build(optimizer, rate=0.1, steps=4)
    >>> rates = []
    >>> for _ in range(4):
    ...     rates.append(round(schedule.get_last_lr()[0], 4))
    ...     optimizer.step()
    ...     schedule.step()
    >>> rates
    [0.1, 0.075, 0.05, 0.025]
    """

    name: str = "one_cycle"
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> "Schedule":
        """Return the schedule that a text names.

        Raises
        ------
        ConfigError
            If the text is malformed, or the schedule is unknown or no schedule over steps.
        """
        schedule = Schedule(*GRAMMAR.parse(text))
        if schedule.name not in SCHEDULES and "." not in schedule.name and ":" not in schedule.name:
            raise ConfigError(
                f"--schedule {schedule.name}",
                "is an unknown schedule",
                f"use {', '.join(SCHEDULES)}, or an import path such as torch.optim.lr_scheduler.CosineAnnealingLR",
            )
        schedule._class()
        return schedule

    @property
    def text(self) -> str:
        """The text that `parse` reads as this schedule."""
        return call_text(self.name, self.arguments)

    @property
    def description(self) -> str:
        """The schedule in a study's settings."""
        if self == Schedule():
            return SCHEDULE
        # The warm-up of several budgets follows from them, so that its length tells a reader nothing.
        return SHARED_SCHEDULE if self.name == FORKABLE and set(self.arguments) == {"warm_up_steps"} else self.text

    @property
    def definition(self) -> str:
        """Import path and all arguments but the steps, for a hash that changes with a default of `SCHEDULES`."""
        return call_text(self._target, self._all_arguments)

    @property
    def is_forkable(self) -> bool:
        """True if trainings of several budgets can replace this schedule by one that they share.

        Only ``one_cycle`` was compared with it (`benchmarks/forked_decays.py`).
        """
        return self == Schedule()

    def for_budgets(self, smaller: Sequence[int]) -> "Schedule":
        """Return the schedule of a training with smaller budgets, in steps and ascending.

        It is this one without any, and if it cannot be forked.
        """
        if not smaller or not self.is_forkable:
            return self
        return Schedule(FORKABLE, {"warm_up_steps": max(1, round(WARM_UP_SHARE * smaller[0]))})

    def build(self, optimizer: torch.optim.Optimizer, rate: float, steps: int) -> LRScheduler:
        """Return torch's scheduler at its first step.

        The learning rate of the optimizer is set to `rate` first, so that a schedule can also replace another one.

        Parameters
        ----------
        optimizer
            Its learning rate, and for ``one_cycle`` its momentum, is changed after each step.
        rate
            Largest learning rate.
        steps
            Optimizer steps of the training.

        Raises
        ------
        ConfigError
            If its arguments do not fit.
        """
        for group in optimizer.param_groups:
            group["lr"] = rate
            group.pop("initial_lr", None)
        # With a total of one step, the learning rate of one cycle would be next to 0.
        known = dict.fromkeys(LENGTHS, max(steps, 2)) | {"max_lr": rate}
        found = self._class()
        accepted = inspect.signature(found).parameters
        arguments = {name: value for name, value in known.items() if name in accepted} | self._all_arguments
        try:
            scheduler: LRScheduler = found(optimizer, **arguments)
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(
                f"--schedule {self.text}", f"could not be built ({error})", "check its arguments"
            ) from error
        return scheduler

    def try_with(self, optimizer: torch.optim.Optimizer) -> None:
        """Carry out a schedule of ten steps, to refuse it before any training.

        Raises
        ------
        ConfigError
            If the schedule cannot be built or carried out with this optimizer.
        """
        steps = 10
        scheduler = self.build(optimizer, 1e-3, steps)
        try:
            for _ in range(steps - 1):
                optimizer.step()
                scheduler.step()
        except (TypeError, ValueError, KeyError, ZeroDivisionError) as error:
            raise ConfigError(f"--schedule {self.text}", f"cannot be carried out ({error})", "use another") from error

    @property
    def _target(self) -> str:
        return SCHEDULES[self.name][0] if self.name in SCHEDULES else self.name.replace(":", ".")

    @property
    def _all_arguments(self) -> dict[str, Any]:
        known = SCHEDULES[self.name][1] if self.name in SCHEDULES else {}
        return {**known, **self.arguments}

    def _class(self) -> type[LRScheduler]:
        found = import_class(self._target, "--schedule")
        if not issubclass(found, LRScheduler) or issubclass(found, ReduceLROnPlateau):
            raise ConfigError(
                f"--schedule {self.name}",
                "is not a schedule over steps",
                "name a class of torch.optim.lr_scheduler that needs no metric",
            )
        return found
