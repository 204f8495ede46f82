"""Compare the studies of several recipes: means, interactions, regrets, and the combined verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.comparison.arms import Arms, arms_of
from pipeline.comparison.interaction import (
    InteractionSettings,
    RecipeComparison,
    agreement,
    compare_recipes,
    more_needed,
    regrets,
)
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.recipe_words import recipe_caveats, recipe_sentences
from pipeline.comparison.resampling import mean_intervals, units_of
from pipeline.records.recipes import Interaction, RecipeMean, RecipeOutcome, RecipesVerdict
from pipeline.records.verdict import MoreNeeded, Verdict

SEPARATOR = ":"
"""Character between recipe and loss while both are paired at once; names of recipes do not contain it."""


@dataclass(frozen=True, slots=True)
class RecipeResults:
    """Results of the study of one recipe.

    Attributes
    ----------
    recipe
        Name of the recipe.
    table
        Long table of the study, with the patient of each case in a column of that name if patients are known.
    verdict
        Verdict of the study.
    """

    recipe: str
    table: pd.DataFrame
    verdict: Verdict


def compare_studies(results: Sequence[RecipeResults], waiting: Sequence[str] = ()) -> RecipesVerdict:
    """Return the combined verdict on studies that share cases, folds and seeds.

    Metrics, margins, confidence and the deciding metric are those of the first study.

    Parameters
    ----------
    results
        Studies with results, in the order of the recipes; at least one.
    waiting
        Recipes without results yet.

    Raises
    ------
    RecordError
        If a table is malformed, or the fold of a case differs between recipes.
    """
    first = results[0].verdict
    outcomes = tuple(_outcome(item) for item in results)
    margins = {item.metric: item.margin for item in first.pairs}
    controls = frozenset(name for item in results for name in item.verdict.controls)
    metrics = [name for name in first.ranking if all(name in item.verdict.ranking for item in results)]
    rows, arms = _joint_rows(results)
    recommended = {item.recipe: item.verdict.recommended for item in results}
    compared: dict[str, RecipeComparison] = {}
    means: list[RecipeMean] = []
    for metric in metrics:
        joint = pair(rows, metric)
        if joint is None:
            continue
        by_recipe = _by_recipe(joint, list(recommended))
        sd = first.training_sd if metric == first.primary else None
        settings = InteractionSettings(margins, first.confidence, sd, controls)
        compared[metric] = compare_recipes(by_recipe, settings)
        means += _means(joint, controls)
    main = compared.get(first.primary)
    same = set(recommended.values())
    verdict = RecipesVerdict(
        schema=1,
        verdict="cannot_tell" if main is None else agreement(main, recommended, controls),
        recommended=same.pop() if len(same) == 1 else None,
        primary=first.primary,
        recipes=outcomes,
        waiting=tuple(waiting),
        losses=tuple(dict.fromkeys(name for arm in arms.values() for name in arm.candidates)),
        means=tuple(means),
        pairs=tuple(item for metric in compared for item in _with_needs(compared[metric], metric == first.primary)),
        regrets=() if main is None else tuple(regrets(main, recommended)),
        smallest_detectable={name: item.smallest_detectable() for name, item in compared.items()},
        replicated=main is not None and main.replicated,
        cases=0 if main is None else len(next(iter(main.by_recipe.values())).paired.cases),
        confidence=first.confidence,
    )
    if main is not None and verdict.verdict == "cannot_tell":
        verdict = verdict.model_copy(update={"more_needed": _needed(main, outcomes, results)})
    verdict = verdict.model_copy(update={"caveats": recipe_caveats(verdict)})
    return verdict.model_copy(update={"words": recipe_sentences(verdict)})


def _outcome(item: RecipeResults) -> RecipeOutcome:
    verdict = item.verdict
    return RecipeOutcome(
        recipe=item.recipe,
        verdict=verdict.verdict,
        recommended=verdict.recommended,
        headline=verdict.words[0] if verdict.words else "",
        set_aside=dict(verdict.set_aside),
        dropped=dict(verdict.dropped),
        collapsed=dict(verdict.collapsed),
    )


def _joint_rows(results: Sequence[RecipeResults]) -> tuple[pd.DataFrame, dict[str, Arms]]:
    """Return the rows of all compared losses, each named by recipe and loss, and the losses of each recipe."""
    frames, arms = [], {}
    for item in results:
        rows, collapsed = usable_rows(item.table)
        arms[item.recipe] = arms_of(rows, collapsed, item.verdict.dropped)
        rows = rows[rows["loss"].isin(arms[item.recipe].names)]
        frames.append(rows.assign(loss=item.recipe + SEPARATOR + rows["loss"]))
    rows, _ = usable_rows(pd.concat(frames, ignore_index=True))  # refuses folds that differ between recipes
    return rows, arms


def _by_recipe(joint: Paired, recipes: Sequence[str]) -> dict[str, Paired]:
    """Return the part of each recipe, with plain names of the losses; recipes without a loss are left out."""
    names = [name.partition(SEPARATOR) for name in joint.losses]
    parts = {}
    for recipe in recipes:
        places = [at for at, (prefix, _, _) in enumerate(names) if prefix == recipe]
        if places:
            parts[recipe] = replace(
                joint,
                losses=tuple(names[at][2] for at in places),
                values=joint.values[places],
                values_by_seed=joint.values_by_seed[places],
            )
    return parts


def _means(joint: Paired, controls: frozenset[str]) -> list[RecipeMean]:
    """Return the mean of each loss under each recipe, the best mean of each recipe marked."""
    intervals = mean_intervals(joint) if units_of(joint).patient_count > 1 else np.full((len(joint.losses), 2), np.nan)
    found = []
    for name, mean, (low, high) in zip(joint.losses, joint.means, intervals, strict=True):
        recipe, _, loss = name.partition(SEPARATOR)
        known = bool(np.isfinite(low))
        found.append(
            RecipeMean(
                metric=joint.metric,
                recipe=recipe,
                loss=loss,
                mean=float(mean),
                ci_low=float(low) if known else None,
                ci_high=float(high) if known else None,
            )
        )
    best: dict[str, float] = {}
    choose = max if joint.higher_is_better else min
    for item in found:
        if item.loss not in controls:
            best[item.recipe] = choose(best.get(item.recipe, item.mean), item.mean)
    return [
        item.model_copy(update={"best": item.loss not in controls and item.mean == best.get(item.recipe)})
        for item in found
    ]


def _with_needs(comparison: RecipeComparison, decides: bool) -> list[Interaction]:
    """Return the interactions; those of the deciding metric that are open with the study that would decide them."""
    if not decides:
        return comparison.interactions
    return [
        item.model_copy(update={"more_needed": more_needed(comparison, [at])})
        if item.verdict == "cannot_tell" and not item.equivalent
        else item
        for at, item in enumerate(comparison.interactions)
    ]


def _needed(
    comparison: RecipeComparison, outcomes: Sequence[RecipeOutcome], results: Sequence[RecipeResults]
) -> MoreNeeded | None:
    """Return the study that would decide the open interactions between recommended losses and other candidates."""
    chosen = {outcome.recommended for outcome in outcomes}
    candidates = chosen | {name for item in results for name in item.verdict.candidates}
    open_places = [
        at
        for at, item in enumerate(comparison.interactions)
        if item.verdict == "cannot_tell" and not item.equivalent
        if item.losses & chosen and item.losses <= candidates
    ]
    return more_needed(comparison, open_places)


def patients_of(table: pd.DataFrame, patients: Mapping[str, str]) -> pd.DataFrame:
    """Return a long table with the patient of each case; a case without one is a patient of its own."""
    return table.assign(patient=table["case"].map(patients).fillna(table["case"]))
