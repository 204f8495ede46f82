"""Very many cases: resamples are drawn and widened block by block, and nothing is as large as cases times cases."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import resampling
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import Paired, pair
from pipeline.comparison.resampling import draws_of, resampled_means, units_of


@pytest.fixture(autouse=True)
def _empty_cache():
    resampling._cache.clear()
    yield
    resampling._cache.clear()


def paired_of(cases, losses=3, seeds=2, folds=4):
    random = np.random.default_rng(cases)
    by_seed = random.normal(0.8, 0.1, (losses, seeds, cases))
    by_seed[0, 1, ::7] = np.nan
    return Paired(
        metric="dice",
        losses=tuple(f"loss{i}" for i in range(losses)),
        cases=tuple(f"case{i}" for i in range(cases)),
        patients=tuple(f"patient{i // 2}" for i in range(cases)),
        folds=np.arange(cases) // 2 % folds,
        values=np.nanmean(by_seed, axis=1),
        values_by_seed=by_seed,
        case_weights=np.ones(cases),
    )


def means_by_one_matrix(paired, units, resamples, seed):
    """Weights of all resamples and cases at once, as the definition reads."""
    random = np.random.default_rng(seed)
    count = units.fold_count
    fold_of = np.zeros(units.patient_count, dtype=int)
    fold_of[units.patients] = units.folds
    folds = random.multinomial(count, np.full(count, 1 / count), size=resamples)
    weights = np.zeros((resamples, units.patient_count))
    for fold in range(count):
        members = np.flatnonzero(fold_of == fold)
        chances = np.full(members.size, 1 / members.size)
        weights[:, members] = random.multinomial(folds[:, fold] * members.size, chances)
    of_cases = weights[:, units.patients]
    losses, seeds, _ = paired.values_by_seed.shape
    filled = np.where(np.isfinite(paired.values_by_seed), paired.values_by_seed, paired.values[:, None])
    totals = np.zeros((resamples, losses))
    for fold in range(count):
        chosen = random.multinomial(folds[:, fold] * seeds, np.full(seeds, 1 / seeds))
        shares = chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1)
        inside = units.folds == fold
        sums = np.einsum("rc,lsc->rls", of_cases[:, inside], filled[:, :, inside])
        totals += np.einsum("rls,rs->rl", sums, shares)
    return totals / of_cases.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 100, 1 << 22])
def test_blocks_of_any_size_give_the_means_of_one_matrix(block, monkeypatch):
    monkeypatch.setattr(resampling, "BLOCK", block)
    paired = paired_of(46)
    units = units_of(paired)
    found = resampled_means(paired, units, 50, seed=3)
    np.testing.assert_allclose(found, means_by_one_matrix(paired, units, 50, 3), rtol=1e-12)
    np.testing.assert_array_equal(resampled_means(paired, units, 50, seed=3), found)


class AlwaysTheFirst:
    """Random numbers that draw nothing but the first."""

    def multinomial(self, times, chances, size=None):
        times = np.full(size, times) if size is not None else np.asarray(times)
        drawn = np.zeros((len(times), len(chances)), dtype=np.int64)
        drawn[:, 0] = times
        return drawn


def test_a_patient_drawn_over_255_times_is_counted_so():
    units = resampling.Units(np.zeros(300, dtype=np.int64), np.arange(300))
    weights, _ = resampling.patient_weights(units, 4, AlwaysTheFirst())
    np.testing.assert_array_equal(weights[:, 0], 300)
    np.testing.assert_array_equal(weights[:, 1:], 0)


def test_draws_are_shared_by_metrics_of_the_same_cases_and_kept_within_a_bound(monkeypatch):
    units = units_of(paired_of(40))
    assert draws_of(units, 20, 0) is draws_of(units_of(paired_of(40)), 20, 0)
    assert draws_of(units, 20, 1) is not draws_of(units, 20, 0)
    monkeypatch.setattr(resampling, "CACHED_BYTES", 1000)
    for seed in range(5):
        draws_of(units, 40, seed)
    assert sum(item.patients.nbytes for item in resampling._cache.values()) <= 1000


def test_pairing_ten_thousand_cases_needs_no_matrix_of_all_cases():
    cases = [f"case{i:05d}" for i in range(10_000)]
    frames = [
        pd.DataFrame({"loss": loss, "case": cases, "class": name, "metric": "dice", "value": value})
        for loss, value in (("a", 0.8), ("b", 0.9))
        for name in ("left", "right")
    ]
    rows, _ = usable_rows(pd.concat(frames, ignore_index=True))
    tracemalloc.start()
    paired = pair(rows, "dice")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(paired.cases) == 10_000
    np.testing.assert_allclose(paired.values, [[0.8] * 10_000, [0.9] * 10_000])
    assert peak < 64 << 20
