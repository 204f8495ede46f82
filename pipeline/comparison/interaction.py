"""Test whether the differences between losses depend on the recipe.

The double difference of two losses and two recipes is the difference under the first recipe minus that under the
second, paired by case, fold and seed. It is computed as an ordinary difference of two losses, whose value in a case is
its change between the recipes. The standard error therefore comes from the double differences of folds and seeds
themselves: patients, folds and seeds are the units, the effect of the recipe on all losses cancels, and the noise of
all four trainings is included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import sqrt

import numpy as np

from pipeline.comparison.difference import Difference, all_differences
from pipeline.comparison.pairing import Paired
from pipeline.comparison.pairs import Comparison, compare_pairs, holm, margin_of, study_to_decide
from pipeline.comparison.power import OpenPair, rule_of
from pipeline.comparison.resampling import units_of
from pipeline.comparison.variance import mean_errors
from pipeline.records.metrics import metric_of
from pipeline.records.pair_result import PairResult, pair_of
from pipeline.records.recipes import Agreement, Change, Interaction, RecipeDifference, Regret
from pipeline.records.verdict import MoreNeeded


@dataclass(frozen=True, slots=True)
class InteractionSettings:
    """Settings of a comparison of recipes.

    Attributes
    ----------
    margins
        Differences that do not matter, as for `pipeline.comparison.pairs.margin_of`.
    confidence
        Confidence of the intervals. The family of all pairs of losses and recipes of a metric is tested at the level
        ``1 - confidence``.
    training_sd
        Stated standard deviation between two trainings of one loss, in the metric's unit, for studies with a single
        training of each loss.
    controls
        Losses that repeat another one. They take part in the comparison under each recipe, but have no interactions.
    """

    margins: Mapping[str, float]
    confidence: float = 0.95
    training_sd: float | None = None
    controls: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OpenInteraction:
    """Double difference as estimated, and the level of its test at the first step of Holm's correction."""

    difference: Difference
    level: float


@dataclass(frozen=True, slots=True)
class RecipeComparison:
    """Comparison of losses and recipes by one metric.

    Attributes
    ----------
    by_recipe
        Comparison of the losses under each recipe.
    interactions
        Double difference of each pair of losses for each pair of recipes.
    estimates
        Statistics of each interaction, in the same order.
    """

    by_recipe: dict[str, Comparison]
    interactions: list[Interaction]
    estimates: list[OpenInteraction]

    @property
    def replicated(self) -> bool:
        """True if the noise of trainings is known under every recipe."""
        return all(item.replicated for item in self.by_recipe.values())

    def smallest_detectable(self) -> float | None:
        """Return the interaction that 8 of 10 studies like this one would find (median over pairs).

        None without pairs or replicated trainings, or if it exceeds the largest interaction that the metric allows.
        """
        each = [item.detectable for item in self.interactions if item.detectable is not None]
        if not each or not self.replicated:
            return None
        smallest = float(np.median(each))
        largest = metric_of(self.interactions[0].metric).largest
        return None if largest is not None and smallest > 2 * largest else smallest


def compare_recipes(paired: Mapping[str, Paired], settings: InteractionSettings) -> RecipeComparison:
    """Compare losses under each recipe, and their differences between recipes, by one metric.

    Parameters
    ----------
    paired
        Values of each loss under each recipe, all on the same cases and seeds.
    settings
        Margins, confidence and controls.
    """
    by_recipe = {
        recipe: compare_pairs(item, settings.margins, settings.confidence, settings.training_sd)
        for recipe, item in paired.items()
    }
    found: list[tuple[tuple[str, str], tuple[str, str], Difference]] = []
    for first, second in combinations(paired, 2):
        change = change_between(paired[first], paired[second], settings.controls)
        if change is None:
            continue
        # The change of a loss between two recipes contains the noise of two trainings.
        stated = None if settings.training_sd is None else sqrt(2) * settings.training_sd
        units = units_of(change)
        errors = mean_errors(change, units, stated)
        for (i, j), difference in all_differences(change, units, errors, settings.confidence).items():
            found.append(((first, second), (change.losses[i], change.losses[j]), difference))
    corrected = holm([difference.p_value for *_, difference in found])
    level = (1 - settings.confidence) / max(len(found), 1)
    comparison = RecipeComparison(by_recipe, [], [OpenInteraction(difference, level) for *_, difference in found])
    for (recipes, losses, difference), p_holm in zip(found, corrected, strict=True):
        cells = [by_recipe[recipe] for recipe in recipes]
        under = [pair_of(cell.pairs, *losses) for cell in cells]
        assert under[0] is not None, f"{losses} were not compared"
        assert under[1] is not None, f"{losses} were not compared"
        results = (
            under[0].summary(RecipeDifference, recipe=recipes[0]),
            under[1].summary(RecipeDifference, recipe=recipes[1]),
        )
        comparison.interactions.append(_interaction(results, under[0], difference, p_holm, len(found), settings))
    return comparison


def change_between(first: Paired, second: Paired, controls: frozenset[str]) -> Paired | None:
    """Return the change of each common loss from the second recipe to the first; None for fewer than two losses."""
    losses = tuple(name for name in first.losses if name in second.losses and name not in controls)
    if len(losses) < 2:
        return None
    here, there = ([item.losses.index(name) for name in losses] for item in (first, second))
    return replace(
        first,
        losses=losses,
        values=first.values[here] - second.values[there],
        values_by_seed=first.values_by_seed[here] - second.values_by_seed[there],
    )


def _interaction(
    under: tuple[RecipeDifference, RecipeDifference],
    pair: PairResult,
    difference: Difference,
    p_holm: float,
    family: int,
    settings: InteractionSettings,
) -> Interaction:
    """Return the record of a double difference; `pair` is the result under the first recipe, `family` all tests."""
    margin = margin_of(pair.metric, settings.margins)
    alpha = 1 - settings.confidence
    clear = difference.replicated and p_holm < alpha and not difference.mean_and_typical_case_disagree
    equivalent = difference.within(margin)
    verdict, change = _classify(*under, clear=clear and not equivalent)
    rule = rule_of(difference, settings.confidence, family)
    return Interaction(
        metric=pair.metric,
        a=pair.a,
        b=pair.b,
        first=under[0],
        second=under[1],
        cases=pair.cases,
        difference=difference.mean,
        ci_low=difference.ci_low,
        ci_high=difference.ci_high,
        p_value=difference.p_value,
        p_holm=p_holm,
        replicated=difference.replicated,
        clear=clear,
        equivalent=equivalent,
        verdict=verdict,
        change=change,
        margin=margin,
        detectable=rule.detectable() if difference.replicated else None,
    )


def _classify(first: RecipeDifference, second: RecipeDifference, *, clear: bool) -> tuple[Agreement, Change | None]:
    """Return the class of a pair of losses; `clear` tells whether the interaction is clear beyond the margin."""
    same_winner = first.better is not None and first.better == second.better
    if clear:
        if first.better and second.better and not same_winner:
            return "differs", "order"
        return "differs", "size" if first.difference * second.difference >= 0 else "order uncertain"
    if same_winner or (first.equivalent and second.equivalent):
        return "holds", None
    return "cannot_tell", None


def stands(loss: str, comparison: Comparison, controls: frozenset[str] = frozenset()) -> bool:
    """Return whether a loss is shown to be clearly better than, or equivalent to, every other loss of a comparison."""
    pairs = [pair for pair in comparison.pairs if loss in pair.names and not pair.names & controls]
    return bool(pairs) and all(pair.better == loss or pair.equivalent for pair in pairs)


def agreement(
    comparison: RecipeComparison, recommended: Mapping[str, str | None], controls: frozenset[str] = frozenset()
) -> Agreement:
    """Return whether the recommendations of all recipes hold under each other.

    Parameters
    ----------
    comparison
        Comparison by the deciding metric.
    recommended
        Loss that each recipe recommends.
    controls
        Losses that repeat another one.

    Notes
    -----
    A recommendation *differs* between two recipes if the interaction of a pair of losses is clear beyond the margin and
    makes one recommendation wrong: the pair consists of two different recommendations, or the loss recommended under
    one recipe is clearly worse, beyond the margin, than the other of the pair under the other recipe. It *holds* if the
    recommendation of each recipe stands under the other (see `stands`).
    """
    names = list(comparison.by_recipe)
    if len(names) < 2:
        return "cannot_tell"
    if any(_contradicts(item, recommended, comparison) for item in comparison.interactions):
        return "differs"
    for first in names:
        for second in names:
            loss = recommended.get(first)
            if loss is None or not stands(loss, comparison.by_recipe[second], controls):
                return "cannot_tell"
    return "holds"


def _contradicts(item: Interaction, recommended: Mapping[str, str | None], comparison: RecipeComparison) -> bool:
    if item.verdict != "differs":
        return False
    choices = [recommended.get(recipe) for recipe in item.recipes]
    interchangeable = item.first.equivalent and item.second.equivalent
    if None not in choices and frozenset(str(loss) for loss in choices) == item.losses and not interchangeable:
        return True
    for loss, other in zip(choices, reversed(item.recipes), strict=True):
        pair = pair_of(comparison.by_recipe[other].pairs, item.a, item.b)
        if loss in item.losses and pair is not None and pair.worse == loss and not pair.equivalent:
            return True
    return False


def regrets(comparison: RecipeComparison, recommended: Mapping[str, str | None]) -> list[Regret]:
    """Return the regret of the recommendation of each recipe under every other, by one metric.

    A loss that has no comparable results under the other recipe has no regret.
    """
    found = []
    for chosen_under, loss in recommended.items():
        for used_under, comparison_there in comparison.by_recipe.items():
            best = recommended.get(used_under)
            if chosen_under == used_under or loss is None or best is None:
                continue
            paired = comparison_there.paired
            pair = pair_of(comparison_there.pairs, best, loss) if best != loss else None
            if pair is None and best != loss:
                continue
            bounds = (0.0, 0.0, 0.0) if pair is None else (pair.difference, pair.ci_low, pair.ci_high)
            if not paired.higher_is_better:
                bounds = (-bounds[0], -bounds[2], -bounds[1])
            found.append(
                Regret(
                    chosen_under=chosen_under,
                    used_under=used_under,
                    loss=loss,
                    recommended=best,
                    metric=paired.metric,
                    regret=bounds[0] + 0.0,  # no negative zero
                    ci_low=bounds[1] + 0.0,
                    ci_high=bounds[2] + 0.0,
                    clear=pair is not None and pair.better == best,
                    within_margin=pair is None or pair.equivalent,
                )
            )
    return found


def more_needed(comparison: RecipeComparison, positions: Sequence[int]) -> MoreNeeded | None:
    """Return the smallest study that would probably decide these interactions; None without any, or without noise.

    Parameters
    ----------
    comparison
        Comparison by one metric.
    positions
        Positions of the open interactions.
    """
    estimates = [comparison.estimates[at] for at in positions]
    margins = [comparison.interactions[at].margin for at in positions]
    open_pairs = [OpenPair(one.difference, one.level, margin) for one, margin in zip(estimates, margins, strict=True)]
    if not comparison.replicated:
        return None
    return study_to_decide(open_pairs, next(iter(comparison.by_recipe.values())).paired)
