"""Simulate studies of several losses under two recipes: shared cases and folds, and trainings of their own."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.interaction import InteractionSettings, RecipeComparison, agreement, compare_recipes
from pipeline.comparison.pairing import Paired
from pipeline.comparison.pairs import decide, near_best
from pipeline.records.recipes import Agreement


@dataclass(frozen=True, slots=True)
class Design:
    """Design and noise of simulated studies; all noise is a standard deviation in Dice.

    Attributes
    ----------
    first, second
        Effect of each loss under each recipe.
    recipe_effect
        Effect of the second recipe on all losses.
    case_noise
        Deviation of a case for a loss. Half of its variance is the same under both recipes, and half is not.
    run_noise
        Deviation of a training.
    noisier
        Noise of the trainings of the second recipe, as a multiple of that of the first.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    recipe_effect: float = 0.0
    cases: int = 100
    folds: int = 5
    seeds: int = 1
    case_noise: float = 0.02
    run_noise: float = 0.005
    noisier: float = 1.0


def simulated_pair(design: Design, seed: int) -> dict[str, Paired]:
    """Return the values of each loss under the recipes A and B."""
    random = np.random.default_rng(seed)
    fold = np.arange(design.cases) % design.folds
    losses = tuple(f"l{index}" for index in range(len(design.first)))
    difficulty = 0.85 + 0.05 * random.standard_normal(design.cases) + 0.01 * random.standard_normal(design.folds)[fold]
    likes = random.standard_normal((len(losses), design.cases))
    names = tuple(f"c{index:03d}" for index in range(design.cases))
    paired = {}
    for recipe, effects, noise in (("A", design.first, 1.0), ("B", design.second, design.noisier)):
        shape = (len(losses), design.seeds, design.cases)
        values = np.broadcast_to(difficulty + design.recipe_effect * (recipe == "B"), shape).copy()
        values += np.asarray(effects)[:, None, None]
        values += design.case_noise * np.sqrt(0.5) * likes[:, None, :]
        values += design.case_noise * np.sqrt(0.25) * random.standard_normal((len(losses), 1, design.cases))
        values += design.case_noise * np.sqrt(0.25) * random.standard_normal(shape)
        trained = random.standard_normal((len(losses), design.seeds, design.folds))
        values += noise * design.run_noise * trained[:, :, fold]
        means = values.mean(axis=1)
        paired[recipe] = Paired("dice", losses, names, names, fold, means, values, np.ones(design.cases))
    return paired


def best_of(comparison: RecipeComparison) -> dict[str, str | None]:
    """Return the candidate with the best mean under each recipe."""
    best = {}
    for recipe, item in comparison.by_recipe.items():
        _, candidates = decide(item)
        best[recipe] = near_best(candidates, item.pairs)[0]
    return best


@dataclass(frozen=True, slots=True)
class Counts:
    """Shares of simulated studies.

    Attributes
    ----------
    differs
        A pair of losses is classed as *differs*.
    holds
        The first pair is classed as *holds*.
    verdict
        Share of each answer about the study as a whole.
    covered
        The interval of the first pair's interaction contains the truth.
    predicted
        Mean interaction that is stated to be found with a probability of 80 %.
    """

    differs: float
    holds: float
    verdict: Mapping[Agreement, float]
    covered: float
    predicted: float


def count(design: Design, studies: int, first_seed: int = 60_000) -> Counts:
    """Return the shares over simulated studies."""
    differs = holds = covered = 0
    predicted = 0.0
    verdicts: dict[Agreement, float] = {"holds": 0.0, "differs": 0.0, "cannot_tell": 0.0}
    truth = (design.first[0] - design.first[1]) - (design.second[0] - design.second[1])
    for seed in range(first_seed, first_seed + studies):
        comparison = compare_recipes(simulated_pair(design, seed), InteractionSettings({}))
        pair = comparison.interactions[0]
        differs += any(item.verdict == "differs" for item in comparison.interactions)
        holds += pair.verdict == "holds"
        covered += pair.ci_low <= truth <= pair.ci_high
        predicted += pair.detectable or 0.0
        verdicts[agreement(comparison, best_of(comparison))] += 1 / studies
    return Counts(differs / studies, holds / studies, verdicts, covered / studies, predicted / studies)
