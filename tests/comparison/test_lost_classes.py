import pandas as pd
import pytest

from pipeline.comparison.lost_classes import LostClasses, lost_classes


def table(values: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    """Return a table with one case for each fold; `values` holds the Dice of each fold by loss and class."""
    return pd.DataFrame(
        [
            {"loss": loss, "fold": fold, "seed": 0, "case": f"c{fold}", "class": name, "metric": "dice", "value": value}
            for loss, classes in values.items()
            for name, folds in classes.items()
            for fold, value in enumerate(folds)
        ]
    )


def test_each_training_may_lose_another_class_and_the_mean_hides_it():
    rows = table(
        {
            "a": {"big": [1.0, 0.8, 0.9], "tiny": [0.0, 0.9, 0.9], "small": [0.8, 0.04, 0.8]},
            "b": {"big": [0.9, 0.7, 0.8], "tiny": [0.5, 0.7, 0.6], "small": [0.9, 0.9, 0.9]},
        }
    )
    (found,) = lost_classes(rows)
    assert found == LostClasses("a", pytest.approx(6.14 / 9), 3, 2, {"small": 1, "tiny": 1}, 0.04, 0.5)
    assert found.sentence == (
        "a loses a class in 2 of its 3 trainings (small in 1, tiny in 1): Dice at most 0.04, where another loss "
        "reaches at least 0.50. Its mean over all classes, 0.68, does not show that."
    )


@pytest.mark.parametrize(
    ("of_a", "of_b"),
    [([0.1, 0.2], [0.9, 0.9]), ([0.0, 0.0], [0.4, 0.4]), ([0.9, 0.0], [0.0, 0.4])],
    ids=["poor, but found", "hard for all losses", "found by nobody else in the same fold"],
)
def test_a_class_that_no_other_loss_finds_is_not_lost(of_a, of_b):
    assert not [one for one in lost_classes(table({"a": {"small": of_a}, "b": {"small": of_b}})) if one.loss == "a"]
