"""What one run may cost, and how seconds become steps, the same number for every arm."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.training.learning_rate import CANDIDATES, first_trial_steps

MINIMUM_STEPS = 10

MOST_VALIDATIONS = 5
VALIDATION_SHARE = 0.25
"""Of the cost of a training, at most, for the points of its curves."""

PASSES_OF_A_STEP = 3
"""Forward passes that a training step costs for each patch."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Either seconds or steps of training in each run; the other is None."""

    seconds: float | None
    steps: int | None

    @staticmethod
    def parse(text: str) -> "Budget":
        """Read ``120s``, ``5min``, ``1h`` or ``800steps``; a `ConfigError` for anything else."""
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
            "is not a budget",
            f"give seconds or steps, e.g. 120s, 5min or 800steps (≥ {MINIMUM_STEPS})",
        )

    def in_steps(self, step_seconds: float, learning_rates: int = len(CANDIDATES)) -> int:
        """Return the steps of one training, so that it and the search over learning rates fit the seconds."""
        if self.steps is not None:
            return self.steps
        assert self.seconds is not None
        affordable = self.seconds / step_seconds
        steps = int(affordable)
        while steps > MINIMUM_STEPS and steps + _search(steps, learning_rates) > affordable:
            steps -= max(1, steps // 100)
        return max(MINIMUM_STEPS, steps)


def _search(steps: int, learning_rates: int) -> int:
    return first_trial_steps(steps) * learning_rates if learning_rates > 1 else 0


def validations(steps: int, plan: Plan, shapes: Sequence[tuple[int, int, int]], overlap: float) -> int:
    """Return how many points the curves of a run have: as many as cost little beside the training, 1 to 5.

    `shapes` are those of the validation cases (of the curves) on the plan's grid, `overlap` that of their windows.
    """
    windows = sum(
        math.prod(
            1 + max(0, math.ceil((edge - window) / (window * (1 - overlap))))
            for edge, window in zip(shape, plan.inference_window, strict=True)
        )
        for shape in shapes
    )
    affordable = VALIDATION_SHARE * steps * plan.batch * PASSES_OF_A_STEP / max(windows, 1)
    return max(1, min(MOST_VALIDATIONS, int(affordable)))
