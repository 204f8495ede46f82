"""The choice of a run's learning rate, by the same rule for every loss and on training cases only.

Losses differ in the scale of their gradients, so one learning rate for all would compare learning rates, not losses.
Each candidate rate trains a fresh copy of the run's network through a whole, short schedule on four fifths of the
training cases: a trial training. It is scored by its average precision on the last fifth, which needs no threshold. A
loss that starts slowly ranks voxels long before any probability reaches one half; hard Dice would score all of its
candidates 0.

While no candidate beats chance, all are trained again for twice as long, in at most `ROUNDS` rounds. If none ever does,
the run takes the default rate. It depends on the candidates alone, so it is the same for all losses.

`pipeline.training.rate_search` carries out the trial trainings of a run, and `pipeline.records.rate_search` records
them. docs/explanation/learning-rates.md explains the rule and measures it.
"""

import math
from collections.abc import Callable, Sequence

from pipeline.records.rate_search import RateSearch, TrialTraining
from pipeline.system.random_streams import stream
from pipeline.training.preparation import PreparedCase

CANDIDATES = (3e-3, 8e-3, 2.4e-2)
"""Learning rates that are tried by default."""

DEFAULT_RATE = 2.4e-2
"""The candidate nearest to this rate is the fallback, and wins ties (benchmarks/learning_rate_regret.py)."""

TRIAL_SHARE = 0.06
"""Steps of a trial training in the first round, as a share of the steps of the training."""

MINIMUM_TRIAL_STEPS = 20

ROUNDS = 3
"""Largest number of rounds. Trials of the last have four times the steps of the first, 24 % of a long training."""

LEAST_SKILL = 0.02
"""Share of the way from chance to a perfect score that a candidate must cover to beat chance."""

MAXIMUM_HELD_OUT = 16
"""Largest number of training cases that score the candidates."""

SEARCH = "average precision"
"""Name of this search in a study's settings; runs of another search do not belong in the same study."""


def first_trial_steps(steps: int) -> int:
    """Return the steps of each trial training in the first round, for a training of `steps`.

    Examples
    --------
    >>> from pipeline.training.learning_rate import first_trial_steps
    >>> first_trial_steps(2000), first_trial_steps(100)
    (120, 20)
    """
    return max(MINIMUM_TRIAL_STEPS, round(steps * TRIAL_SHARE))


def trial_steps(steps: int) -> tuple[int, ...]:
    """Return the steps of a trial training in each round; after the first round none exceeds the training itself.

    Examples
    --------
    >>> from pipeline.training.learning_rate import trial_steps
    >>> trial_steps(2000), trial_steps(50)
    ((120, 240, 480), (20, 40))
    """
    first = first_trial_steps(steps)
    return (first, *(length for length in (first * 2**i for i in range(1, ROUNDS)) if length <= steps))


def default_rate(candidates: Sequence[float], target: float = DEFAULT_RATE) -> float:
    """Return the candidate nearest to `target` on a logarithmic scale.

    Examples
    --------
    >>> from pipeline.training.learning_rate import default_rate
    >>> default_rate((1e-4, 3e-4))
    0.0003
    """
    return min(candidates, key=lambda rate: _distance(rate, target))


def _distance(rate: float, target: float) -> float:
    return abs(math.log(rate / target))


def beats_chance(score: float | None, chance: float | None) -> bool:
    """Return whether a score covers more than `LEAST_SKILL` of the way from chance to 1.

    Examples
    --------
    Chance is 0.9, so the score must exceed 0.902:

    >>> from pipeline.training.learning_rate import beats_chance
    >>> beats_chance(0.901, 0.9), beats_chance(0.91, 0.9), beats_chance(None, 0.9)
    (False, True, False)
    """
    return score is not None and chance is not None and score - chance > LEAST_SKILL * (1 - chance)


def split_training_cases(
    cases: Sequence[PreparedCase],
    patients: Sequence[str],
    with_foreground: Sequence[bool],
    seed: int,
    fold: int,
) -> tuple[tuple[PreparedCase, ...], tuple[PreparedCase, ...]]:
    """Return the cases to train on and the cases to score on; no patient is in both.

    A fifth of the patients is held out, in random order but those with foreground first, since a case without any
    cannot be scored. With a single patient, both are all of that patient's cases.

    Parameters
    ----------
    cases, patients, with_foreground
        Training cases of the run, the patient of each, and whether each shows any class.
    seed, fold
        Select the random stream.
    """
    names = sorted(set(patients))
    if len(names) < 2:
        return tuple(cases), tuple(cases)
    shows_foreground = {patient for patient, shows in zip(patients, with_foreground, strict=True) if shows}
    shuffled = [names[int(i)] for i in stream(seed, "learning rate", fold).permutation(len(names))]
    shuffled.sort(key=lambda name: name not in shows_foreground)
    held_out = set(shuffled[: max(1, len(names) // 5)])
    fitting = tuple(case for case, patient in zip(cases, patients, strict=True) if patient not in held_out)
    scoring = tuple(case for case, patient in zip(cases, patients, strict=True) if patient in held_out)
    return fitting, scoring[:MAXIMUM_HELD_OUT]


def choose_rate(
    candidates: Sequence[float],
    steps_by_round: Sequence[int],
    chance: float | None,
    score_of: Callable[[float, int], float | None],
    default: float = DEFAULT_RATE,
) -> RateSearch:
    """Try all candidates, longer in each round, until one beats chance; choose the best one, else the default.

    Parameters
    ----------
    candidates
        Learning rates. Each is tried in every round, so that losses differ only in their number of rounds.
    steps_by_round
        Steps of a trial training in each round.
    chance
        The score without any learning. If it is None, no case can be scored, and the default is chosen.
    score_of
        Trains at a rate for a number of steps and returns the score, or None if the training was not finite.
    default
        The candidate nearest to this rate is the fallback, and wins ties.

    Examples
    --------
    >>> from pipeline.training.learning_rate import choose_rate
    >>> scores = {0.003: 0.4, 0.008: 0.7, 0.024: None}
    >>> search = choose_rate(tuple(scores), (20, 40), chance=0.01, score_of=lambda rate, steps: scores[rate])
    >>> search.chosen, search.rule
    (0.008, 'best')
    """
    trials: list[TrialTraining] = []
    for steps in steps_by_round if chance is not None else ():
        own_round = [TrialTraining(rate, steps, score_of(rate, steps)) for rate in sorted(candidates, reverse=True)]
        trials += own_round
        scored = [trial for trial in own_round if beats_chance(trial.score, chance)]
        if scored:
            best = max(scored, key=lambda trial: (trial.score or 0.0, -_distance(trial.learning_rate, default)))
            return RateSearch(best.learning_rate, "best", chance, tuple(trials))
    return RateSearch(default_rate(candidates, default), "fallback", chance, tuple(trials))
