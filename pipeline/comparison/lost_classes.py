"""Classes that a loss loses in each of its trainings, which its mean over the classes does not show."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

LOST_BELOW = 0.1
FOUND_FROM = 0.5
"""A class is lost where its mean Dice is below the first value in each training of one loss, and at least the second
in each training of another."""


@dataclass(frozen=True, slots=True)
class LostClass:
    """A class that is lost by one loss and found by others.

    Attributes
    ----------
    loss, class_name
        The loss, and the class that it loses.
    mean
        Mean Dice of the loss over all classes.
    highest
        Highest mean Dice of the class among the trainings of the loss.
    trainings
        Number of these trainings.
    finder
        The loss that finds the class best in its worst training.
    finder_mean
        Mean Dice of that loss over all classes.
    finder_lowest
        Lowest mean Dice of the class among the trainings of that loss.
    """

    loss: str
    class_name: str
    mean: float
    highest: float
    trainings: int
    finder: str
    finder_mean: float
    finder_lowest: float

    @property
    def sentence(self) -> str:
        """The class, and the means that hide it."""
        return (
            f"{self.loss} loses {self.class_name} in each of its {self.trainings} trainings (Dice at most "
            f"{self.highest:.2f}), where {self.finder} reaches at least {self.finder_lowest:.2f}. Their means over all "
            f"classes, {self.mean:.2f} and {self.finder_mean:.2f}, do not show that."
        )


def lost_classes(rows: pd.DataFrame) -> Sequence[LostClass]:
    """Return the classes that some loss loses, the most complete loss of a class first.

    Parameters
    ----------
    rows
        Table with the columns of ``cases.csv``.
    """
    dice = rows[(rows["metric"] == "dice") & rows["value"].notna()]
    means = dice.groupby(["loss", "class"])["value"].mean().groupby("loss").mean()
    trainings = dice.groupby(["class", "loss", "fold", "seed"])["value"].mean()
    spans = trainings.groupby(["class", "loss"]).agg(["min", "max", "count"])
    lost = []
    for (name, loss), span in spans.iterrows():
        lowest = spans.loc[name]["min"]
        finder = lowest.idxmax()
        if span["max"] < LOST_BELOW and lowest[finder] >= FOUND_FROM:
            values = float(means[loss]), float(span["max"]), int(span["count"])
            lost.append(LostClass(loss, name, *values, finder, float(means[finder]), float(lowest[finder])))
    return sorted(lost, key=lambda one: one.highest)
