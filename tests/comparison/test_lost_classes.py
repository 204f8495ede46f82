import pandas as pd
import pytest

from pipeline.comparison.lost_classes import LostClass, lost_classes


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


def test_a_class_that_is_lost_in_every_fold_is_named_with_the_means_that_hide_it():
    rows = table({"a": {"big": [1.0, 0.8], "small": [0.0, 0.04]}, "b": {"big": [0.9, 0.7], "small": [0.5, 0.7]}})
    (found,) = lost_classes(rows)
    assert found == LostClass("a", "small", pytest.approx(0.46), 0.04, 2, "b", pytest.approx(0.7), 0.5)
    assert found.sentence == (
        "a loses small in each of its 2 trainings (Dice at most 0.04), where b reaches at least 0.50. "
        "Their means over all classes, 0.46 and 0.70, do not show that."
    )


@pytest.mark.parametrize(
    ("of_a", "of_b"),
    [([0.0, 0.2], [0.9, 0.9]), ([0.0, 0.0], [0.9, 0.4]), ([0.9, 0.9], [0.9, 0.9])],
    ids=["found in one fold", "hard for all losses", "found by all"],
)
def test_a_class_is_not_lost_unless_every_training_says_so(of_a, of_b):
    assert not lost_classes(table({"a": {"small": of_a}, "b": {"small": of_b}}))
