"""The rates that the verdict promises, counted over studies of known truth (docs/statistics.md has the numbers)."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from simulated_studies import simulate, simulate_paired

from pipeline.comparison import compare
from pipeline.comparison.difference import difference
from pipeline.comparison.pairing import pair, usable_rows
from pipeline.comparison.pairs import Comparison, compare_pairs, decide
from pipeline.comparison.resampling import resampled_means, units_of

DESIGNS = {
    "5 folds": {"cases": 60},
    "5 folds x 2 seeds": {"cases": 60, "seeds": 2},
    "10 folds": {"cases": 100, "folds": 10},
    "1 fold x 3 seeds": {"cases": 40, "folds": 1, "seeds": 3},
    "two scans a patient": {"cases": 120, "scans": 2},
    "case noise alone": {"cases": 60, "run_noise": 0.0, "folds": 1},
}


FIRST_SEED = 30_000
"""The rules were settled on studies of other seeds; these judge them."""


def compared(effects: dict[str, float], design: str, seed: int) -> Comparison:
    paired = pair(usable_rows(simulate(effects, seed=seed, **DESIGNS[design]))[0], "dice")
    assert paired is not None
    return compare_pairs(paired, None, 0.95, 300, 0)


def false_winners(design: str, losses: str, studies: int) -> float:
    equal = dict.fromkeys(losses, 0.0)
    seeds = range(FIRST_SEED, FIRST_SEED + studies)
    return sum(decide(compared(equal, design, seed))[0] == "winner" for seed in seeds) / studies


def has_a_false_winner(design: str, seed: int) -> bool:
    """The verdict on two equal losses; without a bootstrap where the t interval alone holds 0, as most do."""
    paired = simulate_paired({"a": 0.0, "b": 0.0}, seed=seed, **DESIGNS[design])
    each = paired.values[0] - paired.values[1]
    # resamples that are all the mean itself widen no interval
    one = difference(each, paired.seeds[0] - paired.seeds[1], np.full(2, each.mean()), units_of(paired), 0.95)
    if one is None or one.ci_low <= 0 <= one.ci_high:
        return False
    return decide(compare_pairs(paired, None, 0.95, 300, 0))[0] == "winner"


def share_of_means_in_their_interval(design: str, studies: int, distances: bool) -> tuple[float, float]:
    """How often the interval of one loss's mean holds the true mean, and its smallest lower end.

    As distances, the scores become 3 mm times a log-normal factor with a long tail.
    """
    held, least = 0, np.inf
    for seed in range(FIRST_SEED, FIRST_SEED + studies):
        paired, true = simulate_paired({"a": 0.0}, seed=seed, **DESIGNS[design]), 0.85
        if distances:
            # logarithms of a case: difficulty 5 points, fold 1, case 2, training 1, all by 5
            spread = (0.05**2 + 0.01**2 + 0.02**2 + 0.01**2) / 0.05**2
            seeds = 3 * np.exp((0.85 - paired.seeds) / 0.05)
            paired = replace(paired, metric="hausdorff_mm", seeds=seeds, values=seeds.mean(axis=1))
            true = 3 * np.exp(spread / 2)
        low, high = np.quantile(resampled_means(paired, units_of(paired), 500, 0)[:, 0], [0.025, 0.975])
        held, least = held + (low <= true <= high), min(least, low)
    return held / studies, least


def found_and_predicted(design: str, difference: float, studies: int) -> tuple[float, float]:
    found, predicted = 0, 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + studies):
        result = compared({"a": 0.0, "b": difference}, design, seed)
        found += result.entries[0]["better"] == "b"
        predicted += result.rules[0, 1].power(difference)
    return found / studies, predicted / studies


def test_the_verdict_of_the_whole_comparison_is_the_one_counted_here():
    for effect in (0.0, 0.05):
        table = simulate({"a": 0.0, "b": effect}, seed=1, **DESIGNS["5 folds"])
        assert compare(table, resamples=300).verdict == decide(compared({"a": 0.0, "b": effect}, "5 folds", 1))[0]


@pytest.mark.parametrize("design", ["5 folds", "5 folds x 2 seeds"])
def test_equal_losses_have_a_winner_in_at_most_one_of_twenty_studies(design):
    # at exactly 5 %, 200 studies give more than 17 winners (8.5 %) with a chance of 1 %
    assert false_winners(design, "ab", 200) <= 0.085


def test_a_planted_difference_is_found_at_the_power_that_the_tool_predicts():
    found, predicted = found_and_predicted("5 folds", 0.02, 400)
    assert 0.3 < found < 0.95
    assert found == pytest.approx(predicted, abs=0.10)


@pytest.mark.parametrize("distances", [False, True])
def test_intervals_of_a_mean_mostly_hold_it_and_never_reach_below_0(distances):
    share, least = share_of_means_in_their_interval("5 folds", 100, distances)
    assert share > 0.85
    assert least > 0


@pytest.mark.slow
@pytest.mark.parametrize("distances", [False, True])
@pytest.mark.parametrize("design", ["5 folds", "10 folds", "two scans a patient"])
def test_intervals_of_a_mean_over_a_thousand_studies(design, distances):
    share, least = share_of_means_in_their_interval(design, 1000, distances)
    print(f"\ninterval of a mean | {design} | {'distances' if distances else 'shares'} | {100 * share:.1f} %")
    assert share > 0.88
    assert least > 0


def test_the_shortcut_by_the_t_interval_gives_the_verdict_of_the_whole_comparison():
    seeds = range(FIRST_SEED, FIRST_SEED + 60)
    for design in ("5 folds", "two scans a patient", "1 fold x 3 seeds"):
        whole = [decide(compared({"a": 0.0, "b": 0.0}, design, seed))[0] == "winner" for seed in seeds]
        assert [has_a_false_winner(design, seed) for seed in seeds] == whole


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_of_twenty_thousand_studies_of_two_equal_losses_surely_fewer_than_5_percent_have_a_winner(design):
    count = sum(has_a_false_winner(design, seed) for seed in range(100_000, 120_000))
    low, high = stats.binomtest(count, 20_000).proportion_ci(0.95)
    print(f"\nfalse winners | {design} | {count} of 20,000 | {100 * low:.2f} to {100 * high:.2f} %")
    assert high < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("losses", ["ab", "abc"])
@pytest.mark.parametrize("design", DESIGNS)
def test_over_a_thousand_studies_of_equal_losses_at_most_5_percent_have_a_winner(design, losses):
    rate = false_winners(design, losses, 1000)
    print(f"\nfalse winners | {design} | {len(losses)} losses | {100 * rate:.1f} %")
    # 5 % is the bar for three losses; of two, where every false finding is a false winner, a count from 1,000 studies
    # scatters by 0.6 points around its rate, and more than 6.7 % has a chance of 1 % at a rate of 5 %
    assert rate <= (0.05 if len(losses) > 2 else 0.067)


@pytest.mark.slow
@pytest.mark.parametrize("difference", [0.010, 0.016, 0.024])
@pytest.mark.parametrize("design", DESIGNS)
def test_planted_differences_are_found_at_the_predicted_power_in_every_design(design, difference):
    found, predicted = found_and_predicted(design, difference, 1000)
    print(f"\npower | {design} | {100 * difference:.1f} points | {100 * found:.1f} % | {100 * predicted:.1f} %")
    assert found == pytest.approx(predicted, abs=0.10)
