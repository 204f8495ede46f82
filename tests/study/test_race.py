import numpy as np
import pandas as pd

from pipeline.study.race import dropped_losses

BLOCKS = [(fold, seed) for seed in range(2) for fold in range(5)]
MEANS = {"dice": 0.85, "dice-aa": 0.85, "ce": 0.846, "focal": 0.70}


def table_of(blocks, losses=MEANS):
    random = np.random.default_rng(0)
    rows = []
    for loss in MEANS:
        for fold, seed in BLOCKS:
            training = random.normal(0, 0.002)
            for case in range(12):
                value = MEANS[loss] + training + random.normal(0, 0.01)
                if (fold, seed) in blocks and loss in losses:
                    rows.append((loss, fold, seed, f"case{fold}_{case}", "organ", "dice", value, "ok"))
    return pd.DataFrame(rows, columns=["loss", "fold", "seed", "case", "class", "metric", "value", "state"])


def test_a_hopeless_loss_is_out_before_the_end_and_the_others_stay():
    dropped = dropped_losses(table_of(BLOCKS[:4]), list(MEANS), BLOCKS)
    assert list(dropped) == ["focal"]
    assert "behind" in dropped["focal"]


def test_nothing_is_dropped_after_one_block():
    assert dropped_losses(table_of(BLOCKS[:1]), list(MEANS), BLOCKS) == {}


def test_runs_that_finished_out_of_order_or_after_the_drop_change_nothing():
    early = dropped_losses(table_of(BLOCKS[:4]), list(MEANS), BLOCKS)
    later = pd.concat([table_of(BLOCKS[:4]), table_of(BLOCKS[5:6])])
    assert dropped_losses(later, list(MEANS), BLOCKS) == early
    survivors = [name for name in MEANS if name != "focal"]
    without = pd.concat([table_of(BLOCKS[:4]), table_of(BLOCKS[4:6], survivors)])
    both = pd.concat([table_of(BLOCKS[:4]), table_of(BLOCKS[4:6])])
    assert dropped_losses(without, list(MEANS), BLOCKS) == dropped_losses(both, list(MEANS), BLOCKS)
