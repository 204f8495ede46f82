"""What the stock metrics do with empty masks, spacing and NaN, and that ours does not."""

import numpy as np
import pytest
import torch
from monai.handlers import HausdorffDistance
from monai.metrics import DiceMetric, HausdorffDistanceMetric

from pipeline.metrics.aggregate import summarize
from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.records.table import scores_frame

pytestmark = pytest.mark.filterwarnings("ignore")
SHAPE = (8, 8, 8)
DIAGONAL_MM = 8 * 3**0.5


def cube(start=2):
    mask = np.zeros(SHAPE, np.uint8)
    mask[start : start + 3, 2:5, 2:5] = 1
    return mask


EMPTY = np.zeros(SHAPE, np.uint8)


def means(*pairs, spacing=(1.0, 1.0, 1.0)):
    scores = [
        score
        for index, (reference, prediction) in enumerate(pairs)
        for score in evaluate_case(str(index), reference, prediction, spacing, PanelSettings({1: "it"}))
    ]
    return summarize(scores_frame("a", 0, 0, scores)).set_index("metric")


def stock(metric, *pairs):
    y, y_pred = (torch.from_numpy(np.stack(masks)[:, None]) for masks in zip(*pairs, strict=True))
    metric(y_pred=y_pred, y=y)
    return float(metric.aggregate())


def test_a_miss_improves_the_stock_95_percent_hausdorff_and_worsens_ours():
    good, poor, missed = (cube(), cube()), (cube(), cube(4)), (cube(), EMPTY)
    percentile = {"include_background": True, "percentile": 95}
    assert stock(HausdorffDistanceMetric(**percentile), good, missed) == 0.0
    assert stock(HausdorffDistanceMetric(**percentile), good, poor) == 1.0
    assert means(good, missed).loc["hausdorff95_mm", "mean"] == pytest.approx(DIAGONAL_MM / 2)
    assert means(good, missed).loc["hausdorff95_mm", "mean"] > means(good, poor).loc["hausdorff95_mm", "mean"]


def test_a_miss_swallows_the_stock_hausdorff_and_stays_finite_in_ours():
    pairs = (cube(), cube()), (cube(), EMPTY)
    assert stock(HausdorffDistanceMetric(include_background=True), *pairs) == float("inf")
    assert means(*pairs).loc["hausdorff_mm", "mean"] == pytest.approx(DIAGONAL_MM / 2)


def test_a_mean_over_nothing_is_a_perfect_stock_distance_and_undefined_in_ours():
    assert stock(HausdorffDistanceMetric(include_background=True, percentile=95), (EMPTY, EMPTY)) == 0.0
    found = means((EMPTY, EMPTY))
    assert found["mean"].isna().all()
    assert (found["defined"] == 0).all()
    assert (found["correct_absence"] == 1).all()


def test_the_stock_dice_drops_a_false_positive_and_ours_counts_it():
    pairs = (cube(), cube()), (EMPTY, cube())
    assert stock(DiceMetric(include_background=True), *pairs) == 1.0
    found = means(*pairs)
    assert found.loc["dice", "mean"] == 0.5
    assert (found["defined"] == 2).all()
    assert (found["false_positive"] == 1).all()


def test_the_stock_handler_measures_in_voxels_and_ours_in_millimeters():
    handler = HausdorffDistance(include_background=True, save_details=False)
    handler.update([torch.from_numpy(mask[None, None]) for mask in (cube(4), cube())])
    assert float(handler.compute()) == 2.0
    assert means((cube(), cube(4)), spacing=(2.5, 1.0, 1.0)).loc["hausdorff_mm", "mean"] == 5.0


def test_the_argmax_of_nan_is_a_plausible_background_and_its_probabilities_are_refused():
    dead = torch.full((2, *SHAPE), float("nan"))
    prediction = dead.argmax(0).numpy()
    assert not prediction.any()
    with pytest.raises(ValueError, match="probabilities must lie"):
        evaluate_case(
            "c", cube(), prediction, (1, 1, 1), PanelSettings({1: "it"}), probabilities=dead.softmax(0).numpy()
        )


def test_labels_that_are_nan_or_fractions_are_refused_instead_of_called_background():
    for wrong in (np.nan, 0.5):
        labels = cube().astype(float)
        labels[0, 0, 0] = wrong
        with pytest.raises(ValueError, match="not whole numbers"):
            evaluate_case("c", cube(), labels, (1, 1, 1), PanelSettings({1: "it"}))
