"""The interaction of losses and recipes: hand-made numbers, classes, words, and error rates over simulated studies."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from simulated_recipes import Design, best_of, count, simulated_pair

from pipeline.comparison import compare
from pipeline.comparison.interaction import InteractionSettings, agreement, compare_recipes, regrets, stands
from pipeline.comparison.pairing import Paired
from pipeline.comparison.recipes import RecipeResults, compare_studies
from pipeline.errors import RecordError

SETTINGS = InteractionSettings({})


def paired(values, folds, losses=("ce", "dice")):
    """Return values (losses, cases) of one seed."""
    array = np.asarray(values, dtype=float)
    names = tuple(f"c{index}" for index in range(array.shape[1]))
    weights = np.ones(array.shape[1])
    return Paired("dice", losses, names, names, np.asarray(folds), array, array[:, None, :], weights)


def results_of(design, seed=1, names=("fast", "adamw")):
    results = []
    for name, one in zip(names, simulated_pair(design, seed).values(), strict=True):
        table = pd.concat(
            pd.DataFrame(
                {
                    "loss": loss,
                    "fold": one.folds,
                    "seed": seed,
                    "case": one.cases,
                    "class": "organ",
                    "metric": "dice",
                    "value": one.values_by_seed[at, seed],
                    "state": "ok",
                }
            )
            for at, loss in enumerate(one.losses)
            for seed in range(one.values_by_seed.shape[1])
        )
        results.append(RecipeResults(name, table, compare(table)))
    return results


def test_the_double_difference_is_that_of_the_fold_means_worked_out_by_hand():
    """Differences of folds: 3, 1, 2 under A and 1, 2, 0 under B (hundredths); double differences 2, -1, 2."""
    folds = [0, 0, 1, 1, 2, 2]
    base = 0.8 + np.asarray([0.0, 0.01, 0.02, 0.03, 0.04, 0.05])
    first = paired([base + np.repeat([0.03, 0.01, 0.02], 2), base], folds)
    second = paired([base - 0.2 + np.repeat([0.01, 0.02, 0.0], 2), base - 0.2], folds)
    pair = compare_recipes({"A": first, "B": second}, SETTINGS).interactions[0]
    assert pair.recipes == ("A", "B")
    assert pair.first.difference == pytest.approx(0.02)
    assert pair.second.difference == pytest.approx(0.01)
    assert pair.difference == pytest.approx(0.01)
    # Standard deviation of 2, -1, 2 is sqrt(3); the error of the mean is 1, times 1.06; t with 2 degrees: 4.3027.
    assert pair.ci_high - pair.difference == pytest.approx(0.01 * 1.06 * 4.3027, rel=1e-4)
    assert pair.verdict == "cannot_tell"
    assert pair.detectable > 0.04


def test_the_effect_of_a_recipe_on_all_losses_cancels():
    design = Design((0.0, -0.02), (0.0, -0.02))
    plain = compare_recipes(simulated_pair(design, 3), SETTINGS).interactions[0]
    shifted = compare_recipes(simulated_pair(replace(design, recipe_effect=-0.3), 3), SETTINGS).interactions[0]
    assert shifted.difference == pytest.approx(plain.difference)
    assert shifted.ci_low == pytest.approx(plain.ci_low)


@pytest.mark.parametrize(
    ("design", "verdict", "change", "whole"),
    [
        (Design((0.03, 0.0), (-0.03, 0.0)), "differs", "order", "differs"),
        (Design((0.08, 0.0), (0.03, 0.0)), "differs", "size", "holds"),
        (Design((0.03, 0.0), (0.03, 0.0)), "holds", None, "holds"),
        (Design((0.0, 0.0), (0.0, 0.0), case_noise=0.002, run_noise=0.0005), "holds", None, "holds"),
        (Design((0.0, 0.0), (0.0, 0.0)), "cannot_tell", None, "cannot_tell"),
    ],
)
def test_pairs_and_verdicts_are_classed(design, verdict, change, whole):
    comparison = compare_recipes(simulated_pair(design, 7), SETTINGS)
    pair = comparison.interactions[0]
    assert (pair.verdict, pair.change) == (verdict, change)
    assert agreement(comparison, best_of(comparison)) == whole


def test_regret_is_the_mean_difference_to_the_loss_recommended_there_and_positive_if_worse():
    comparison = compare_recipes(simulated_pair(Design((0.03, 0.0), (-0.03, 0.0)), 7), SETTINGS)
    by_place = {(item.chosen_under, item.used_under): item for item in regrets(comparison, {"A": "l0", "B": "l1"})}
    pairs = {recipe: item.pairs[0].difference for recipe, item in comparison.by_recipe.items()}
    assert by_place["A", "B"].regret == pytest.approx(-pairs["B"])
    assert by_place["B", "A"].regret == pytest.approx(pairs["A"])
    for item in by_place.values():
        assert 0 < item.ci_low < item.regret < item.ci_high
        assert item.clear
    assert not stands("l0", comparison.by_recipe["B"])
    same = regrets(comparison, {"A": "l0", "B": "l0"})
    assert [(item.regret, item.within_margin) for item in same] == [(0.0, True)] * 2


def test_regret_in_mm_is_positive_for_the_larger_distance():
    folds = np.arange(20) % 5
    near, far = 2 + 0.1 * np.arange(20), 5 + 0.1 * np.arange(20) + 0.01 * folds
    first = replace(paired([near, far], folds), metric="hausdorff95_mm")
    second = replace(paired([far, near], folds), metric="hausdorff95_mm")
    comparison = compare_recipes({"A": first, "B": second}, SETTINGS)
    assert all(item.regret > 2.9 for item in regrets(comparison, {"A": "ce", "B": "dice"}))


def test_three_recipes_have_all_pairs_and_one_correction():
    two = simulated_pair(Design((0.02, 0.0, -0.01), (-0.02, 0.0, -0.01)), 5)
    comparison = compare_recipes({**two, "C": two["A"]}, SETTINGS)
    assert [item.recipes for item in comparison.interactions[::3]] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert len(comparison.interactions) == 9
    smallest = min(comparison.interactions, key=lambda item: item.p_value)
    assert smallest.p_holm == pytest.approx(min(1.0, 9 * smallest.p_value))
    same = [item for item in comparison.interactions if item.recipes == ("A", "C")]
    assert all(item.difference == 0 and not item.clear for item in same)


def test_controls_and_losses_of_one_recipe_have_no_interaction():
    two = simulated_pair(Design((0.02, 0.0, -0.01), (-0.02, 0.0, -0.01)), 5)
    one = two["B"]
    two["B"] = replace(one, losses=one.losses[:2], values=one.values[:2], values_by_seed=one.values_by_seed[:2])
    assert [item.losses for item in compare_recipes(two, SETTINGS).interactions] == [{"l0", "l1"}]
    assert not compare_recipes(two, replace(SETTINGS, controls=frozenset({"l1"}))).interactions


def test_a_single_training_of_each_loss_cannot_tell():
    comparison = compare_recipes(simulated_pair(Design((0.1, 0.0), (-0.1, 0.0), folds=1), 5), SETTINGS)
    assert [item.verdict for item in comparison.interactions] == ["cannot_tell"]
    assert comparison.smallest_detectable() is None


def test_the_combined_verdict_of_opposite_recipes_differs_in_words_and_numbers():
    verdict = compare_studies(results_of(Design((0.03, 0.0), (-0.03, 0.0))), ["nnunet"])
    assert (verdict.verdict, verdict.recommended, verdict.primary, verdict.cases) == ("differs", None, "dice", 100)
    assert verdict.words[0] == "The verdict depends on the recipe: under fast, use l0; under adamw, use l1."
    assert any("each of them is clearly better under one recipe" in sentence for sentence in verdict.words)
    assert any(sentence.startswith("Under adamw, l0 (recommended under fast) costs") for sentence in verdict.words)
    assert any("with a probability of 80 %" in sentence for sentence in verdict.words)
    assert verdict.caveats[0].startswith("Without results yet: nnunet.")
    assert {(mean.recipe, mean.loss) for mean in verdict.means if mean.best} == {("fast", "l0"), ("adamw", "l1")}
    assert all(mean.ci_low < mean.mean < mean.ci_high for mean in verdict.means)


def test_the_combined_verdict_holds_with_one_recommendation():
    verdict = compare_studies(results_of(Design((0.04, 0.0), (0.04, 0.0))))
    assert (verdict.verdict, verdict.recommended) == ("holds", "l0")
    assert verdict.words[0] == "The verdict holds under both recipes (fast and adamw): use l0."


def test_an_open_verdict_names_the_study_that_would_decide():
    verdict = compare_studies(results_of(Design((0.004, 0.0), (-0.004, 0.0)), seed=2))
    assert verdict.verdict == "cannot_tell"
    assert verdict.more_needed is not None
    assert verdict.more_needed.seeds_now == 1
    assert verdict.smallest_detectable["dice"] > 0.005
    assert verdict.words[0].startswith("This study cannot tell whether the verdict depends on the recipe")


def test_results_of_one_recipe_are_no_comparison():
    verdict = compare_studies(results_of(Design((0.04, 0.0), (0.04, 0.0)))[:1], ["adamw"])
    assert verdict.words == ("Only the recipe fast has results so far, so that recipes cannot be compared.",)
    assert not verdict.pairs


def test_recipes_with_other_folds_are_refused():
    first, second = results_of(Design((0.04, 0.0), (0.04, 0.0)))
    other = RecipeResults("adamw", second.table.assign(fold=(second.table["fold"] + 1) % 5 * 2), second.verdict)
    with pytest.raises(RecordError, match="differs for one case"):
        compare_studies([first, other])


@pytest.mark.parametrize("seeds", [1, 2])
def test_equal_differences_are_rarely_called_different(seeds):
    """At most 5 % of studies without an interaction; with 80 studies, up to 9 may occur by chance."""
    gap = (0.0, -0.02)
    found = count(Design(gap, gap, recipe_effect=-0.05, seeds=seeds, cases=60), 80)
    assert found.differs <= 9 / 80
    assert found.covered >= 0.88


def test_large_interactions_are_found_and_never_said_to_hold():
    found = count(Design((0.02, 0.0), (-0.02, 0.0), recipe_effect=-0.05, cases=60), 40)
    assert found.differs >= 0.95
    assert found.holds == 0
    assert found.verdict["holds"] == 0
