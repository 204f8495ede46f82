"""The hierarchical bootstrap: folds, patients within folds, seeds within folds, as matrices of weights.

Resampling with weights makes every resample of every loss one matrix product; the same weights serve all losses, which
keeps the pairing. A fold that is drawn m times contributes m times its number of patients, drawn anew each time.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.comparison.pairing import Paired

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Counts = NDArray[np.unsignedinteger[Any]]

BLOCK = 1 << 22
"""Weights that are widened at once: 32 MiB."""

KEPT_BYTES = 1 << 30


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


@dataclass(frozen=True, slots=True)
class Draws:
    """How often each patient (resamples, patients) and each fold (resamples, folds) is drawn, and what draws the rest.

    Counts of patients are kept as small integers: of 100,000 patients 2,000 resamples take 200 MB.
    """

    patients: Counts
    folds: Indices
    state: Mapping[str, Any]


_kept: OrderedDict[bytes, Draws] = OrderedDict()
"""Draws of the last units, which other metrics of the same cases share."""


def draws_of(units: Units, resamples: int, seed: int) -> Draws:
    """Return the draws of patients and folds, always the same for the same units and seed."""
    key = hashlib.sha256(units.folds.tobytes() + units.patients.tobytes() + repr((resamples, seed)).encode()).digest()
    if key in _kept:
        _kept.move_to_end(key)
        return _kept[key]
    random = np.random.default_rng(seed)
    weights, drawn = patient_weights(units, resamples, random)
    _kept[key] = found = Draws(weights, drawn, random.bit_generator.state)
    while len(_kept) > 1 and sum(item.patients.nbytes for item in _kept.values()) > KEPT_BYTES:
        _kept.popitem(last=False)
    return found


def patient_weights(units: Units, resamples: int, random: np.random.Generator) -> tuple[Counts, Indices]:
    """Return how often each patient (resamples, patients) and each fold (resamples, folds) is drawn."""
    fold_of = np.zeros(units.patient_count, dtype=np.int64)
    fold_of[units.patients] = units.folds
    count = units.fold_count
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    # a patient is drawn at most as often as all of its fold are, and a fold at most as often as there are folds
    most = np.min_scalar_type(int(np.bincount(fold_of).max()) * count)
    weights: Counts = np.zeros((resamples, units.patient_count), dtype=np.uint8)
    for fold in range(count):
        members = np.flatnonzero(fold_of == fold)
        chances = np.full(members.size, 1 / members.size)
        for rows in _blocks(resamples, members.size):
            block = random.multinomial(drawn[rows, fold] * members.size, chances)
            if weights.dtype == np.uint8 and block.max(initial=0) > 255:
                weights = weights.astype(most)
            weights[rows, members] = block
    return weights, drawn


def resampled_means(paired: Paired, units: Units, resamples: int, seed: int) -> Floats:
    """Return the mean over cases of each loss in each resample (resamples, losses).

    Memory does not grow with resamples times cases but by the kept draws: weights are widened block by block.
    """
    draws = draws_of(units, resamples, seed)
    random = np.random.default_rng(seed)
    random.bit_generator.state = draws.state
    losses, seeds, _ = paired.seeds.shape
    filled = np.where(np.isfinite(paired.seeds), paired.seeds, paired.values[:, None, :]) * paired.weights
    totals, weights = np.zeros((resamples, losses)), np.zeros(resamples)
    for fold in range(units.fold_count):
        inside = np.flatnonzero(units.folds == fold)
        of_fold = np.ascontiguousarray(filled[:, :, inside].reshape(losses * seeds, -1).T)
        sums = np.empty((resamples, losses * seeds))
        for rows in _blocks(resamples, inside.size):
            of_cases = draws.patients[rows][:, units.patients[inside]].astype(np.float64)
            sums[rows] = of_cases @ of_fold
            weights[rows] += of_cases @ paired.weights[inside]
        chosen = random.multinomial(draws.folds[:, fold] * seeds, np.full(seeds, 1 / seeds)).astype(np.float64)
        chosen /= np.maximum(draws.folds[:, fold] * seeds, 1)[:, None]
        totals += np.einsum("rls,rs->rl", sums.reshape(resamples, losses, seeds), chosen)
    means: Floats = totals / weights[:, None]
    return means


def _blocks(resamples: int, width: int) -> Iterator[slice]:
    """Yield the resamples in blocks that hold about `BLOCK` numbers each."""
    rows = max(1, BLOCK // max(width, 1))
    for start in range(0, resamples, rows):
        yield slice(start, min(start + rows, resamples))


def mean_intervals(paired: Paired, resamples: int = 2000) -> Floats:
    """Return the 95 % interval of each loss's mean, (losses, 2), from the bootstrap over folds, patients and seeds."""
    drawn = resampled_means(paired, units_of(paired), resamples, seed=0)
    return np.asarray(np.quantile(drawn, [0.025, 0.975], axis=0).T, dtype=np.float64)
