"""The training budget per run, and its conversion to steps, the same number for every arm."""

import re
from dataclasses import dataclass

from pipeline.errors import ConfigError
from pipeline.training.learning_rate import CANDIDATES, first_trial_steps

MINIMUM_STEPS = 10


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
    def parse(text: str) -> "Budget":
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
            f"--budget {text}",
            f"must be a duration, or at least {MINIMUM_STEPS} steps",
            "use e.g. 120s, 5min or 800steps",
        )

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
        assert self.seconds is not None
        affordable = self.seconds / step_seconds
        steps = int(affordable)
        while steps > MINIMUM_STEPS and steps + _steps_of_search(steps, learning_rates) > affordable:
            steps -= max(1, steps // 100)
        return max(MINIMUM_STEPS, steps)


def _steps_of_search(steps: int, learning_rates: int) -> int:
    return first_trial_steps(steps) * learning_rates if learning_rates > 1 else 0
