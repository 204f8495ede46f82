"""Classes that trainings of a loss lose, which its mean over the classes does not show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

LOST_BELOW = 0.1
FOUND_FROM = 0.5
"""A training loses a class if its mean Dice is below the first value, and at least the second for another loss in the
same fold with the same seed."""

_TRAINING = ["fold", "seed"]


@dataclass(frozen=True, slots=True)
class LostClasses:
    """The classes that trainings of a loss lose.

    Attributes
    ----------
    loss
        The loss.
    mean
        Its mean Dice over all classes.
    trainings, losing
        Its trainings, and those of them that lose a class.
    classes
        Trainings that lose it, for each class that is lost.
    highest
        Highest mean Dice among the lost classes.
    reached
        Lowest mean Dice that the best loss reaches for them.
    """

    loss: str
    mean: float
    trainings: int
    losing: int
    classes: Mapping[str, int]
    highest: float
    reached: float

    @property
    def sentence(self) -> str:
        """The lost classes, and the mean that hides them."""
        classes = ", ".join(f"{name} in {count}" for name, count in self.classes.items())
        return (
            f"{self.loss} loses a class in {self.losing} of its {self.trainings} trainings ({classes}): Dice at most "
            f"{self.highest:.2f}, where another loss reaches at least {self.reached:.2f}. Its mean over all classes, "
            f"{self.mean:.2f}, does not show that."
        )


def lost_classes(rows: pd.DataFrame) -> Sequence[LostClasses]:
    """Return what each loss loses, the loss with most such trainings first; losses that lose nothing are left out.

    Parameters
    ----------
    rows
        Table with the columns of ``cases.csv``.
    """
    dice = rows[(rows["metric"] == "dice") & rows["value"].notna()]
    means = dice.groupby(["loss", "class"])["value"].mean().groupby("loss").mean()
    values = dice.groupby(["class", *_TRAINING, "loss"], as_index=False)["value"].mean()
    values["reached"] = values.groupby(["class", *_TRAINING])["value"].transform("max")
    lost = values[(values["value"] < LOST_BELOW) & (values["reached"] >= FOUND_FROM)]
    found = [
        LostClasses(
            loss=str(loss),
            mean=float(means[loss]),
            trainings=len(values[values["loss"] == loss].drop_duplicates(_TRAINING)),
            losing=len(group.drop_duplicates(_TRAINING)),
            classes={str(name): int(count) for name, count in group["class"].value_counts().items()},
            highest=float(group["value"].max()),
            reached=float(group["reached"].min()),
        )
        for loss, group in lost.groupby("loss")
    ]
    return sorted(found, key=lambda one: -one.losing)
