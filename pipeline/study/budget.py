"""The training budgets per run, and their conversion to steps, the same numbers for every arm."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.errors import ConfigError
from pipeline.training.learning_rate import CANDIDATES, first_trial_steps

MINIMUM_STEPS = 10

AUTO = "auto"
"""Budgets at `FRACTIONS` of the largest one."""

FRACTIONS = (1 / 8, 1 / 4, 1 / 2)

MINIMUM_STEPS_OF_FRACTION = 50
"""Smaller fractions are left out: so short a training says nothing about a long one."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Training budget per run: either seconds or optimizer steps; the other one is None.

    Examples
    --------
    >>> Budget.parse("5min")
    Budget(seconds=300.0, steps=None)
    >>> Budget.parse("800steps")
    Budget(seconds=None, steps=800)
    """

    seconds: float | None
    steps: int | None

    @staticmethod
    def parse(text: str, option: str = "--budget") -> "Budget":
        """Return the budget that a text such as ``120s``, ``5min``, ``1h`` or ``800steps`` describes.

        Raises
        ------
        ConfigError
            If the text is neither a positive duration nor a whole number of at least `MINIMUM_STEPS` steps.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|steps?)\s*", text)
        if match:
            number, unit = float(match[1]), match[2]
            if unit.startswith("step") and number >= MINIMUM_STEPS and number == int(number):
                return Budget(None, int(number))
            factor = {"s": 1, "min": 60, "h": 3600}.get(unit)
            if factor and number > 0:
                return Budget(number * factor, None)
        raise ConfigError(
            f"{option} {text}",
            f"must be a duration, or at least {MINIMUM_STEPS} steps",
            "use e.g. 120s, 5min or 800steps",
        )

    @property
    def size(self) -> float:
        """Steps or seconds, whichever is given."""
        size = self.seconds if self.steps is None else self.steps
        assert size is not None
        return size

    @property
    def text(self) -> str:
        """The text that `parse` reads as this budget."""
        return f"{self.size:g}s" if self.steps is None else f"{self.steps}steps"

    def part(self, fraction: float) -> "Budget":
        """Return a fraction of this budget."""
        if self.steps is not None:
            return Budget(None, round(fraction * self.steps))
        return Budget(fraction * self.size, None)

    def in_steps(self, step_seconds: float, learning_rates: int = len(CANDIDATES)) -> int:
        """Return the optimizer steps of one training.

        The training and its search over learning rates together fit the seconds of the budget, unless these afford
        fewer than `MINIMUM_STEPS`.

        Parameters
        ----------
        step_seconds
            Measured time of one step, in seconds.
        learning_rates
            Candidates of the search; a single one means that there is no search.

        Examples
        --------
        >>> Budget(seconds=100.0, steps=None).in_steps(step_seconds=0.1, learning_rates=1)
        1000
        >>> Budget(seconds=None, steps=800).in_steps(step_seconds=0.1)
        800
        """
        if self.steps is not None:
            return self.steps
        affordable = self.size / step_seconds
        steps = int(affordable)
        while steps > MINIMUM_STEPS and steps + _steps_of_search(steps, learning_rates) > affordable:
            steps -= max(1, steps // 100)
        return max(MINIMUM_STEPS, steps)


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budgets at which each run is evaluated; one training yields all of them.

    Attributes
    ----------
    largest
        Budget of the training.
    smaller
        The other budgets, in ascending order.
    least_steps
        Smaller budgets of fewer steps are left out.

    Examples
    --------
    >>> Budgets.parse("800steps", "").smaller_steps(800)
    ()
    >>> Budgets.parse("800steps", "auto").smaller_steps(800)
    (100, 200, 400)
    >>> Budgets.parse("", "1min,5min,15min").smaller_steps(9000)
    (600, 3000)
    """

    largest: Budget
    smaller: tuple[Budget, ...] = ()
    least_steps: int = 0

    @staticmethod
    def parse(budget: str, budgets: str) -> "Budgets":
        """Return the budgets that the options ``--budget`` and ``--budgets`` describe.

        Parameters
        ----------
        budget
            The largest budget; empty if `budgets` lists all of them.
        budgets
            `AUTO`, or budgets in ascending order such as ``200,800,3200steps``, where a number without a unit has that
            of the last one; empty for one budget.

        Raises
        ------
        ConfigError
            If a budget cannot be read, or they are not in ascending order.
        """
        if budgets in ("", AUTO):
            largest = Budget.parse(budget)
            smaller = tuple(largest.part(fraction) for fraction in FRACTIONS) if budgets else ()
            return Budgets(largest, smaller, MINIMUM_STEPS_OF_FRACTION)
        texts = budgets.split(",")
        unit = re.sub(r"[\d.\s]", "", texts[-1])
        listed = [Budget.parse(text if re.search(r"[a-z]", text) else f"{text}{unit}", "--budgets") for text in texts]
        in_steps = {each.steps is not None for each in listed}
        sizes = [each.size for each in listed]
        if len(in_steps) > 1 or any(after <= before for before, after in pairwise(sizes)):
            raise ConfigError(
                f"--budgets {budgets}",
                "must be durations or steps in ascending order",
                "use e.g. 200,800,3200steps or 1min,5min,15min",
            )
        return Budgets(listed[-1], tuple(listed[:-1]))

    def smaller_steps(self, steps: int) -> tuple[int, ...]:
        """Return the steps of the smaller budgets, for a training of `steps` steps.

        Durations are converted in proportion: the search over learning rates is paid once.

        Raises
        ------
        ConfigError
            If a listed duration affords fewer than `MINIMUM_STEPS`, or as many steps as another.
        """
        found = [round(steps * each.size / self.largest.size) for each in self.smaller]
        if self.least_steps:
            return tuple(each for each in found if each >= self.least_steps)
        self._check_apart([*found, steps])
        return tuple(found)

    def _check_apart(self, found: Sequence[int]) -> None:
        if found[0] < MINIMUM_STEPS or any(after <= before for before, after in pairwise(found)):
            raise ConfigError(
                "--budgets",
                f"give {', '.join(map(str, found))} steps on this machine; each needs at least {MINIMUM_STEPS}, and "
                "more than the one before",
                "use longer budgets",
            )


def _steps_of_search(steps: int, learning_rates: int) -> int:
    return first_trial_steps(steps) * learning_rates if learning_rates > 1 else 0
