import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.metrics.overlap import Counts
from pipeline.metrics.thresholds import THRESHOLDS, dice_at_thresholds


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_every_threshold_gives_the_dice_of_the_mask_cut_there(seed, share):
    random = np.random.default_rng(seed)
    reference = random.random((5, 6, 4)) < share
    probability = random.choice(np.asarray([*THRESHOLDS, 0.0, 0.01, 0.5001, 1.0], np.float32), (5, 6, 4))
    for threshold, found in zip(THRESHOLDS, dice_at_thresholds(reference, probability), strict=True):
        mask = probability >= np.float32(threshold)
        counts = Counts(int(reference.sum()), int(mask.sum()), int((mask & reference).sum()))
        assert found == (None if counts.reference == counts.prediction == 0 else counts.dice)


def test_a_missed_class_scores_zero_and_an_absent_one_has_no_value():
    nothing = np.zeros((3, 3, 3), np.float32)
    assert set(dice_at_thresholds(np.ones((3, 3, 3), bool), nothing)) == {0.0}
    assert set(dice_at_thresholds(np.zeros((3, 3, 3), bool), nothing)) == {None}
    assert dice_at_thresholds(np.zeros((3, 3, 3), bool), nothing + 0.5)[0] == 0.0
