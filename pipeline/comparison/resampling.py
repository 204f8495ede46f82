"""The hierarchical bootstrap: folds, patients within folds, seeds within folds, as matrices of weights.

Resampling with weights makes every resample of every loss one matrix product; the same weights serve all losses, which
keeps the pairing. A fold that is drawn m times contributes m times its number of patients, drawn anew each time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.comparison.pairing import Paired

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Units:
    """What is independent of what: index of the fold and of the patient (within its fold) of each case."""

    folds: Indices
    patients: Indices

    @property
    def fold_count(self) -> int:
        """Number of folds, 1 where the table has none."""
        return int(self.folds.max()) + 1

    @property
    def patient_count(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1


def units_of(paired: Paired) -> Units:
    """Return the units of the cases; a patient whose cases stand in two folds counts as two."""
    _, folds = np.unique(paired.folds, return_inverse=True)
    _, named = np.unique(np.asarray(paired.patients), return_inverse=True)
    _, patients = np.unique(folds.astype(np.int64) * len(named) + named, return_inverse=True)
    return Units(folds.astype(np.int64), patients.astype(np.int64))


def patient_weights(units: Units, resamples: int, random: np.random.Generator) -> tuple[Floats, Indices]:
    """Return how often each patient (resamples, patients) and each fold (resamples, folds) is drawn."""
    fold_of = np.zeros(units.patient_count, dtype=np.int64)
    fold_of[units.patients] = units.folds
    count = units.fold_count
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = np.zeros((resamples, units.patient_count))
    for fold in range(count):
        members = np.flatnonzero(fold_of == fold)
        chances = np.full(members.size, 1 / members.size)
        weights[:, members] = random.multinomial(drawn[:, fold] * members.size, chances)
    return weights, drawn


def resampled_means(paired: Paired, units: Units, resamples: int, seed: int) -> Floats:
    """Return the mean over cases of each loss in each resample (resamples, losses)."""
    random = np.random.default_rng(seed)
    weights, drawn = patient_weights(units, resamples, random)
    losses, seeds, _ = paired.seeds.shape
    filled = np.where(np.isfinite(paired.seeds), paired.seeds, paired.values[:, None, :])
    of_cases = weights[:, units.patients]
    totals = np.zeros((resamples, losses))
    for fold in range(units.fold_count):
        inside = np.flatnonzero(units.folds == fold)
        sums = of_cases[:, inside] @ filled[:, :, inside].reshape(losses * seeds, -1).T
        chosen = random.multinomial(drawn[:, fold] * seeds, np.full(seeds, 1 / seeds)).astype(np.float64)
        chosen /= np.maximum(drawn[:, fold] * seeds, 1)[:, None]
        totals += np.einsum("rls,rs->rl", sums.reshape(resamples, losses, seeds), chosen)
    means: Floats = totals / of_cases.sum(axis=1, keepdims=True)
    return means
