"""Hierarchical bootstrap of means: folds, patients within folds, and seeds within folds, as matrices of weights.

With weights instead of lists of drawn cases, all resamples of all losses are one matrix product. The same weights serve
all losses, which preserves the pairing. A fold that is drawn m times contributes m times its number of patients.
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
"""Number of weights that are converted to float64 at once: 32 MiB."""

CACHED_BYTES = 1 << 30
"""Size of the cached draws, beyond which the oldest are discarded."""


@dataclass(frozen=True, slots=True)
class Units:
    """Independent units of the cases: index of the fold and of the patient within its fold, for each case (cases,)."""

    folds: Indices
    patients: Indices

    @property
    def fold_count(self) -> int:
        """Number of folds; 1 if the table has none."""
        return int(self.folds.max()) + 1

    @property
    def patient_count(self) -> int:
        """Number of patients."""
        return int(self.patients.max()) + 1


def units_of(paired: Paired) -> Units:
    """Return the units of the cases; a patient with cases in two folds counts as two."""
    _, folds = np.unique(paired.folds, return_inverse=True)
    _, named = np.unique(np.asarray(paired.patients), return_inverse=True)
    _, patients = np.unique(folds.astype(np.int64) * len(named) + named, return_inverse=True)
    return Units(folds.astype(np.int64), patients.astype(np.int64))


@dataclass(frozen=True, slots=True)
class Draws:
    """Number of times that each patient and each fold is drawn.

    Attributes
    ----------
    patients
        (resamples, patients), as small integers: 2,000 resamples of 100,000 patients take 200 MB.
    folds
        (resamples, folds).
    state
        State of the random generator after these draws, from which seeds are drawn.
    """

    patients: Counts
    folds: Indices
    state: Mapping[str, object]


_cache: OrderedDict[bytes, Draws] = OrderedDict()
"""Draws of the last units. All metrics of the same cases share them, and drawing takes longer than using them."""


def draws_of(units: Units, resamples: int, seed: int) -> Draws:
    """Return the draws of patients and folds; the same units and seed always give the same draws."""
    key = hashlib.sha256(units.folds.tobytes() + units.patients.tobytes() + repr((resamples, seed)).encode()).digest()
    if key in _cache:
        _cache.move_to_end(key)
        return _cache[key]
    random = np.random.default_rng(seed)
    weights, drawn = patient_weights(units, resamples, random)
    _cache[key] = draws = Draws(weights, drawn, random.bit_generator.state)
    while len(_cache) > 1 and sum(item.patients.nbytes for item in _cache.values()) > CACHED_BYTES:
        _cache.popitem(last=False)
    return draws


def patient_weights(units: Units, resamples: int, random: np.random.Generator) -> tuple[Counts, Indices]:
    """Return the number of times that each patient (resamples, patients) and fold (resamples, folds) is drawn."""
    fold_of = np.zeros(units.patient_count, dtype=np.int64)
    fold_of[units.patients] = units.folds
    count = units.fold_count
    drawn = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    # One byte usually suffices. A patient is drawn at most as often as its fold has patients times the number of folds.
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
    """Return the mean over cases of each loss in each resample (resamples, losses), in the metric's unit.

    A seed that a loss lacks counts with the loss's mean over its other seeds. Weights are converted to float64 in
    blocks, so that no float64 array of resamples times cases is needed.
    """
    draws = draws_of(units, resamples, seed)
    random = np.random.default_rng(seed)
    random.bit_generator.state = draws.state
    values = paired.values_by_seed
    losses, seeds, _ = values.shape
    complete = np.where(np.isfinite(values), values, paired.values[:, None, :]) * paired.case_weights
    totals, weights = np.zeros((resamples, losses)), np.zeros(resamples)
    for fold in range(units.fold_count):
        inside = np.flatnonzero(units.folds == fold)
        of_fold = np.ascontiguousarray(complete[:, :, inside].reshape(losses * seeds, -1).T)
        sums = np.empty((resamples, losses * seeds))
        for rows in _blocks(resamples, inside.size):
            of_cases = draws.patients[rows][:, units.patients[inside]].astype(np.float64)
            sums[rows] = of_cases @ of_fold
            weights[rows] += of_cases @ paired.case_weights[inside]
        chosen = random.multinomial(draws.folds[:, fold] * seeds, np.full(seeds, 1 / seeds)).astype(np.float64)
        chosen /= np.maximum(draws.folds[:, fold] * seeds, 1)[:, None]
        totals += np.einsum("rls,rs->rl", sums.reshape(resamples, losses, seeds), chosen)
    means: Floats = totals / weights[:, None]
    return means


def _blocks(resamples: int, width: int) -> Iterator[slice]:
    """Yield slices of the resamples such that a block has about `BLOCK` numbers."""
    rows = max(1, BLOCK // max(width, 1))
    for start in range(0, resamples, rows):
        yield slice(start, min(start + rows, resamples))


def mean_intervals(paired: Paired, resamples: int = 2000) -> Floats:
    """Return the 95 % bootstrap interval of each loss's mean (losses, 2), in the metric's unit."""
    drawn = resampled_means(paired, units_of(paired), resamples, seed=0)
    return np.asarray(np.quantile(drawn, [0.025, 0.975], axis=0).T, dtype=np.float64)
