"""Simulate studies with known noise: difficulty of cases and of folds, noise of trainings, and residual noise."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.comparison.pairing import Paired

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]

UNBALANCED = (0.35, 0.25, 0.20, 0.12, 0.08)
"""Shares of the patients in five folds of very different sizes."""


def draw(
    effects: Mapping[str, float],
    *,
    cases: int = 60,
    folds: int = 5,
    seeds: int = 1,
    case_noise: float = 0.02,
    run_noise: float = 0.01,
    fold_noise: float = 0.01,
    scans: int = 1,
    unbalanced: bool = False,
    failures: float = 0.0,
    noisiest: float = 1.0,
    correlation: float = 0.0,
    seed: int = 0,
) -> tuple[Numbers, Places, Places]:
    """Return values (losses, seeds, cases), patients and folds (cases,); cases of a fold share the noise of a training.

    Parameters
    ----------
    effects
        True mean of each loss, relative to the common level.
    unbalanced
        Whether folds differ in size.
    failures
        Probability that a case fails completely (value 0), for each loss and seed.
    noisiest
        Noise of the trainings of the first loss, as a multiple of that of the others.
    correlation
        Correlation between the noise of two trainings of one loss on different folds.
    """
    random = np.random.default_rng(seed)
    patient = np.arange(cases) // scans
    count = int(patient.max()) + 1
    if unbalanced:
        ends = np.round(np.cumsum(UNBALANCED) * count).astype(np.int64)
        fold_of = random.permutation(np.searchsorted(ends, np.arange(count), side="right"))
    else:
        fold_of = np.arange(count) % folds
    fold = fold_of[patient]
    difficulty = 0.85 + 0.05 * random.standard_normal(count)[patient]
    difficulty += fold_noise * random.standard_normal(folds)[fold]
    values = np.empty((len(effects), seeds, cases))
    for i, effect in enumerate(effects.values()):
        preference = case_noise * random.standard_normal(count)[patient] * np.sqrt(0.5)
        for s in range(seeds):
            shared = np.sqrt(correlation) * random.standard_normal() if correlation else 0.0
            trained = shared + np.sqrt(1 - correlation) * random.standard_normal(folds)
            rest = case_noise * np.sqrt(0.5) * random.standard_normal(cases)
            noise = run_noise * (noisiest if i == 0 else 1.0)
            values[i, s] = difficulty + effect + preference + noise * trained[fold] + rest
            if failures:
                values[i, s, random.random(cases) < failures] = 0.0
    return values, patient, fold.astype(np.int64)


def simulate(effects: Mapping[str, float], **design: Any) -> pd.DataFrame:
    """Return the long table of `draw`."""
    values, patient, fold = draw(effects, **design)
    parts = [
        pd.DataFrame(
            {
                "loss": loss,
                "fold": fold,
                "seed": s,
                "case": [f"c{i:03d}" for i in range(fold.size)],
                "patient": [f"p{i:03d}" for i in patient],
                "metric": "dice",
                "value": values[number, s],
            }
        )
        for number, loss in enumerate(effects)
        for s in range(values.shape[1])
    ]
    return pd.concat(parts, ignore_index=True)


def simulate_paired(effects: Mapping[str, float], **design: Any) -> Paired:
    """Return the same values as `pair` of the table of `simulate`, without building the table."""
    values, patient, fold = draw(effects, **design)
    cases = tuple(f"c{i:03d}" for i in range(fold.size))
    patients = tuple(f"p{i:03d}" for i in patient)
    means, weights = values.mean(axis=1), np.ones(fold.size)
    return Paired("dice", tuple(effects), cases, patients, fold, means, values, weights)
