"""The race: what is dropped, what never is, and how often the best is kept over races of known truth."""

import numpy as np
import pytest
from simulated_studies import simulate

from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.racing import alpha_of_look, clearly_behind, losses_to_drop
from pipeline.errors import ConfigError, RecordError

FOLDS, SEEDS = 5, 2
BLOCKS = [(fold, seed) for seed in range(SEEDS) for fold in range(FOLDS)]
SPREAD = {"a": 0.0, "b": -0.02, "c": -0.04, "d": -0.06, "e": -0.08}
WIDE = {"a": 0.0, "b": -0.04, "c": -0.06, "d": -0.08, "e": -0.1}
DESIGNS = {
    "gaps 0, 2, 4, 6, 8; 200 cases": {"effects": SPREAD, "cases": 200},
    "gaps 0, 2, 4, 6, 8; 60 cases": {"effects": SPREAD, "cases": 60},
    "gaps 0, 4, 6, 8, 10; 60 cases": {"effects": WIDE, "cases": 60},
    "five equal losses, margin 0": {"effects": dict.fromkeys("abcde", 0.0), "cases": 60, "margin": 0.0},
    "two equal losses, margin 0": {"effects": dict.fromkeys("ab", 0.0), "cases": 60, "margin": 0.0},
    "equal, the first 4 times as noisy": {
        "effects": dict.fromkeys("abcde", 0.0), "cases": 60, "margin": 0.0, "noisy": 4.0
    },
}  # fmt: skip


def up_to(table, count):
    return table[[block in BLOCKS[:count] for block in zip(table["fold"], table["seed"], strict=True)]]


def made_up(effects, cases, seed, noisy=1.0, case_noise=0.02, run_noise=0.01):
    """The study of `simulate` as arrays (losses, seeds, cases), fast enough for thousands."""
    random = np.random.default_rng(seed)
    fold = np.arange(cases) % FOLDS
    losses = len(effects)
    runs = run_noise * np.r_[noisy, np.ones(losses - 1)][:, None, None]
    liking = case_noise * np.sqrt(0.5) * random.standard_normal((losses, 1, cases))
    rest = case_noise * np.sqrt(0.5) * random.standard_normal((losses, SEEDS, cases))
    trained = (runs * random.standard_normal((losses, SEEDS, FOLDS)))[:, :, fold]
    return 0.85 + np.array(list(effects.values()))[:, None, None] + liking + trained + rest, fold


def race(effects, cases, seed, noisy=1.0, margin=0.005):
    """Return the losses left after a whole race, and the share of the runs that were trained."""
    values, fold = made_up(effects, cases, seed, noisy)
    names, left, runs = list(effects), list(effects), 0
    for count in range(1, len(BLOCKS) + 1):
        runs += len(left)
        if count < 2 or count == len(BLOCKS) or len(left) < 2:
            continue
        shown = values[[names.index(name) for name in left]].copy()
        for block in BLOCKS[count:]:
            shown[:, block[1], fold == block[0]] = np.nan
        seen = np.isfinite(shown[0]).any(axis=0)
        shown = shown[:, np.isfinite(shown[0]).any(axis=1)][:, :, seen]
        cases_seen = tuple(f"c{i:03d}" for i in np.flatnonzero(seen))
        mean = np.nanmean(shown, axis=1)
        paired = Paired(
            "dice",
            tuple(left),
            cases_seen,
            cases_seen,
            fold[seen].astype(np.int64),
            mean,
            shown,
            np.ones(len(cases_seen)),
        )
        lost = clearly_behind(paired, alpha_of_look(count, len(BLOCKS), 0.05) / (len(names) - 1), margin)
        left = [name for name in left if name not in lost]
    return left, runs / (len(names) * len(BLOCKS))


def races(design, count, first):
    found = [race(seed=seed, **DESIGNS[design]) for seed in range(first, first + count)]
    return np.mean(["a" in left for left, _ in found]), np.mean([share for _, share in found])


def test_a_loss_that_is_far_behind_is_dropped_with_a_reason_that_has_the_numbers():
    table = simulate({"dice": 0.0, "ce": 0.005, "focal": -0.15}, seeds=SEEDS)
    reasons = losses_to_drop(up_to(table, 4), BLOCKS, BLOCKS[:4])
    assert set(reasons) == {"focal"}
    assert "points of Dice after 4 of 10 blocks" in reasons["focal"]


def test_smaller_is_better_for_distances_in_a_race():
    table = simulate({"near": 0.0, "also": 0.0, "far": 0.2}, seeds=SEEDS)
    table = table.assign(metric="hausdorff95_mm", value=100 * table["value"])
    assert set(losses_to_drop(up_to(table, 4), BLOCKS, BLOCKS[:4], metric="hausdorff95_mm")) == {"far"}


def test_nothing_is_dropped_after_one_block_nor_after_the_last():
    table = simulate({"dice": 0.0, "ce": -0.3, "focal": -0.3}, seeds=SEEDS)
    assert losses_to_drop(up_to(table, 1), BLOCKS, BLOCKS[:1]) == {}
    assert losses_to_drop(table, BLOCKS, BLOCKS) == {}


def test_a_loss_behind_by_less_than_what_matters_stays():
    table = simulate({"dice": 0.0, "ce": -0.004, "focal": -0.2}, seeds=SEEDS, case_noise=1e-5, run_noise=1e-5)
    assert set(losses_to_drop(up_to(table, 6), BLOCKS, BLOCKS[:6])) == {"focal"}


def test_a_loss_dropped_before_takes_no_part_and_still_counts_as_an_opponent():
    table = simulate({"dice": 0.0, "ce": 0.0, "gone": 0.3}, seeds=SEEDS)
    part = up_to(table, 4)
    part = part[(part["loss"] != "gone") | (part["fold"] < 2)]
    assert losses_to_drop(part, BLOCKS, BLOCKS[:4]) == {}


def test_a_loss_that_collapsed_in_a_block_is_not_judged():
    table = simulate({"dice": 0.0, "ce": 0.0, "bad": -0.3}, seeds=SEEDS).assign(state="ok")
    table.loc[(table["loss"] == "bad") & (table["fold"] == 0), ["value", "state"]] = [np.nan, "collapsed"]
    assert losses_to_drop(up_to(table, 4), BLOCKS, BLOCKS[:4]) == {}


def test_a_control_is_dropped_with_its_loss_and_never_drops_it():
    table = simulate({"dice": -0.3, "dice-aa": 0.0, "ce": 0.0}, seeds=SEEDS)
    reasons = losses_to_drop(up_to(table, 4), BLOCKS, BLOCKS[:4])
    assert reasons["dice"].startswith("behind ce")
    assert reasons["dice-aa"] == "a control of dice, which is dropped"
    alone = table[table["loss"] != "ce"]
    assert losses_to_drop(up_to(alone, 4), BLOCKS, BLOCKS[:4]) == {}


def test_the_parts_of_alpha_add_up():
    assert sum(alpha_of_look(look, 10, 0.05) for look in range(1, 11)) == pytest.approx(0.05)


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_a_race_refuses_what_makes_no_sense(alpha):
    table = simulate({"a": 0.0, "b": 0.0}, seeds=SEEDS)
    with pytest.raises(ConfigError, match="must lie between 0 and"):
        losses_to_drop(table, BLOCKS, BLOCKS[:3], alpha=alpha)
    with pytest.raises(ConfigError, match="was not planned"):
        losses_to_drop(table, BLOCKS, [(9, 9), (0, 0)])
    with pytest.raises(RecordError, match="has no nsd"):
        losses_to_drop(table, BLOCKS, BLOCKS[:3], metric="nsd")


def test_the_races_counted_here_are_those_that_drop_would_run():
    for seed in range(3):
        table = up_to(simulate(SPREAD, seeds=SEEDS, seed=seed), 7)
        paired = pair(usable_rows(table)[0], "dice")
        assert paired is not None
        behind = clearly_behind(paired, alpha_of_look(7, 10, 0.05) / 4, 0.005)
        assert set(behind) == set(losses_to_drop(table, BLOCKS, BLOCKS[:7]))


def test_in_a_race_of_spread_gaps_the_best_is_kept_at_less_than_the_full_compute():
    kept, compute = races("gaps 0, 2, 4, 6, 8; 200 cases", 60, first=50_000)
    assert kept >= 0.95
    assert compute <= 0.62


def test_in_a_race_of_equal_losses_the_first_is_rarely_dropped():
    kept, _ = races("two equal losses, margin 0", 100, first=50_000)
    assert kept >= 0.89  # at exactly 95 %, 100 races keep fewer than 89 with a chance of 1 %


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_over_a_thousand_races_the_best_is_kept_in_95_percent(design):
    kept, compute = races(design, 1000, first=60_000)
    print(f"\nrace | {design} | kept {100 * kept:.1f} % | compute {100 * compute:.1f} %")
    assert kept >= 0.95
    if "200 cases" in design:
        assert compute <= 0.60
