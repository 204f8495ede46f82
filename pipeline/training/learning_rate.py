"""A small search over learning rates, the same for every arm and on training cases only.

Losses differ in the scale of their gradients, so that one learning rate for all compares learning rates, not losses.
Each candidate trains a fresh copy of the run's network through a whole, short schedule on four fifths of the training
cases; the mean Dice on the last fifth decides. The largest comes first, and a candidate worse than the one before ends
the search: below the best learning rate a short training only gets less far.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.randomness import stream
from pipeline.training.preparation import PreparedCase

CANDIDATES = (3e-3, 8e-3, 2.4e-2)
SHARE_OF_STEPS = 0.06
MINIMUM_STEPS = 20
MAXIMUM_HELD_OUT = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learning rate and the mean Dice it reached, None where its training went to NaN."""

    learning_rate: float
    score: float | None


def search_steps(steps: int) -> int:
    """Return how many steps each candidate is trained for."""
    return max(MINIMUM_STEPS, round(steps * SHARE_OF_STEPS))


def split_training_cases(
    cases: Sequence[PreparedCase], patients: Sequence[str], seed: int, fold: int
) -> tuple[tuple[PreparedCase, ...], tuple[PreparedCase, ...]]:
    """Return (cases to train on, cases to score on); a patient is never in both.

    Where there is one patient only, both are that patient's cases.
    """
    names = sorted(set(patients))
    if len(names) < 2:
        return tuple(cases), tuple(cases)
    order = stream(seed, "learning rate", fold).permutation(len(names))
    held_out = {names[int(i)] for i in order[: max(1, len(names) // 5)]}
    fitting = tuple(case for case, patient in zip(cases, patients, strict=True) if patient not in held_out)
    scoring = tuple(case for case, patient in zip(cases, patients, strict=True) if patient in held_out)
    return fitting, scoring[:MAXIMUM_HELD_OUT]


def choose(
    candidates: Sequence[float], score_of: Callable[[float], float | None]
) -> tuple[float, tuple[Candidate, ...]]:
    """Return the best candidate (the smallest among equals, or if all failed) and the scores of those tried."""
    found: list[Candidate] = []
    for rate in sorted(candidates, reverse=True):
        score = score_of(rate)
        before = found[-1].score if found else None
        found.append(Candidate(rate, score))
        if before is not None and score is not None and score < before:
            break
    best = max(found, key=lambda item: (item.score is not None, item.score or 0.0, -item.learning_rate))
    return best.learning_rate, tuple(found)
