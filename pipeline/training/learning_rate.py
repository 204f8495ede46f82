"""The decision of the search over learning rates, the same for every arm and made on training cases only.

Losses differ in the scale of their gradients, so that one learning rate for all would compare learning rates, not
losses. Each candidate trains a fresh copy of the run's network through a whole, short schedule on four fifths of the
training cases. It is scored by its average precision on the last fifth, which needs no threshold: a loss that starts
slowly ranks voxels long before any probability reaches one half, and hard Dice would give all of its candidates 0.

While no candidate beats chance, all are trained again for twice as long, at most `ROUNDS` times. If none ever does,
the run takes the default rate, which depends on the candidates alone and so is the same for all arms.
"""

import math
from collections.abc import Callable, Sequence

from pipeline.records.rate_search import Probe, RateSearch
from pipeline.system.random_streams import stream
from pipeline.training.preparation import PreparedCase

CANDIDATES = (3e-3, 8e-3, 2.4e-2)
DEFAULT = 2.4e-2
"""The fallback, and what ties go to, is the candidate nearest to this rate (benchmarks/learning_rate_regret.py)."""

SHARE_OF_STEPS = 0.06
MINIMUM_STEPS = 20
ROUNDS = 3
"""The longest probes take four times the steps of the first: a quarter of a training of 350 steps or more."""

LEAST_SKILL = 0.02
"""Share of the way from chance to a perfect score that a candidate must cover to count as having learned something."""

MAXIMUM_HELD_OUT = 16

SEARCH = "average precision"
"""What a study's settings call this search; runs of another search do not belong in the same study."""


def search_steps(steps: int) -> int:
    """Return the steps of a probe in the first round of the search for a training of `steps`."""
    return max(MINIMUM_STEPS, round(steps * SHARE_OF_STEPS))


def probe_lengths(steps: int) -> tuple[int, ...]:
    """Return the steps of a probe in each round; after the first round none is longer than the training itself."""
    first = search_steps(steps)
    return (first, *(length for length in (first * 2**i for i in range(1, ROUNDS)) if length <= steps))


def default_rate(candidates: Sequence[float]) -> float:
    """Return the candidate nearest to `DEFAULT` on a logarithmic scale."""
    return min(candidates, key=_distance_to_default)


def _distance_to_default(rate: float) -> float:
    return abs(math.log(rate / DEFAULT))


def beats_chance(score: float | None, chance: float | None) -> bool:
    """Whether a score covers at least `LEAST_SKILL` of the way from chance to 1."""
    return score is not None and chance is not None and score - chance > LEAST_SKILL * (1 - chance)


def split_training_cases(
    cases: Sequence[PreparedCase],
    patients: Sequence[str],
    with_foreground: Sequence[bool],
    seed: int,
    fold: int,
) -> tuple[tuple[PreparedCase, ...], tuple[PreparedCase, ...]]:
    """Return (cases to train on, cases to score on); a patient is never in both.

    A fifth of the patients, in random order but those with foreground first: a case without any cannot be scored. Where
    there is one patient only, both are that patient's cases.
    """
    names = sorted(set(patients))
    if len(names) < 2:
        return tuple(cases), tuple(cases)
    showing = {patient for patient, shows in zip(patients, with_foreground, strict=True) if shows}
    shuffled = [names[int(i)] for i in stream(seed, "learning rate", fold).permutation(len(names))]
    shuffled.sort(key=lambda name: name not in showing)
    held_out = set(shuffled[: max(1, len(names) // 5)])
    fitting = tuple(case for case, patient in zip(cases, patients, strict=True) if patient not in held_out)
    scoring = tuple(case for case, patient in zip(cases, patients, strict=True) if patient in held_out)
    return fitting, scoring[:MAXIMUM_HELD_OUT]


def choose(
    candidates: Sequence[float],
    lengths: Sequence[int],
    chance: float | None,
    score_of: Callable[[float, int], float | None],
) -> RateSearch:
    """Probe all candidates, longer in each round, until one beats chance; return the best one or the default.

    Parameters
    ----------
    candidates
        Learning rates; each is probed in every round, so that arms differ in rounds only.
    lengths
        Steps of a probe in each round.
    chance
        The score without any learning; None where nothing can be scored, which leaves the default.
    score_of
        Trains at a rate for a number of steps and returns the score, None where it went to NaN.
    """
    probes: list[Probe] = []
    for steps in lengths if chance is not None else ():
        tried = [Probe(rate, steps, score_of(rate, steps)) for rate in sorted(candidates, reverse=True)]
        probes += tried
        scored = [probe for probe in tried if beats_chance(probe.score, chance)]
        if scored:
            best = max(scored, key=lambda probe: (probe.score or 0.0, -_distance_to_default(probe.learning_rate)))
            return RateSearch(best.learning_rate, "best", chance, tuple(probes))
    return RateSearch(default_rate(candidates), "fallback", chance, tuple(probes))
