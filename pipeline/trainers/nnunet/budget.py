"""The training budget of nnU-Net: epochs, or optimizer steps that are divided into epochs."""

import re
from dataclasses import dataclass

from pipeline.errors import ConfigError

ITERATIONS = 250
"""Optimizer steps of one of nnU-Net's epochs."""

DEFAULT_EPOCHS = 1000
"""Epochs of nnU-Net's own trainer."""

FEWEST_EPOCHS = 20
FEWEST_ITERATIONS = 4


@dataclass(frozen=True, slots=True)
class EpochBudget:
    """Epochs of a training, and optimizer steps of each."""

    epochs: int = DEFAULT_EPOCHS
    iterations: int = ITERATIONS

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.epochs * self.iterations

    @staticmethod
    def parse(text: str) -> "EpochBudget":
        """Return the budget that ``50epochs`` or ``5000steps`` describes; an empty text is nnU-Net's own budget.

        nnU-Net lowers its learning rate from epoch to epoch. Steps are therefore divided into at least twenty epochs,
        as long as each has four steps, and no epoch is longer than nnU-Net's.

        Raises
        ------
        ConfigError
            If the text is neither a number of epochs nor of steps.

        Examples
        --------
        >>> EpochBudget.parse("50epochs")
        EpochBudget(epochs=50, iterations=250)
        >>> EpochBudget.parse("1000steps")
        EpochBudget(epochs=20, iterations=50)
        >>> EpochBudget.parse("8steps")
        EpochBudget(epochs=2, iterations=4)
        """
        if not text:
            return EpochBudget()
        match = re.fullmatch(r"\s*(\d+)\s*(epochs?|steps?)\s*", text)
        number = int(match[1]) if match else 0
        if match and match[2].startswith("epoch") and number >= 1:
            return EpochBudget(number)
        if match and match[2].startswith("step") and number >= FEWEST_ITERATIONS:
            epochs = max(-(-number // ITERATIONS), min(FEWEST_EPOCHS, number // FEWEST_ITERATIONS))
            return EpochBudget(epochs, number // epochs)
        raise ConfigError(
            f"--budget {text}",
            f"must be epochs, or at least {FEWEST_ITERATIONS} steps, for nnU-Net",
            "use e.g. 50epochs or 5000steps",
        )
