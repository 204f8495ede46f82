"""Studies made up from known noise: difficulty of cases, of folds, of single trainings, and what is left."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.comparison.pairing import Paired

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]


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
    seed: int = 0,
) -> tuple[Numbers, Places, Places]:
    """Return values (losses, seeds, cases), patients and folds; the noise of a training is shared by its fold."""
    random = np.random.default_rng(seed)
    patient = np.arange(cases) // scans
    fold = patient % folds
    difficulty = 0.85 + 0.05 * random.standard_normal(patient.max() + 1)[patient]
    difficulty += fold_noise * random.standard_normal(folds)[fold]
    values = np.empty((len(effects), seeds, cases))
    for i, effect in enumerate(effects.values()):
        liking = case_noise * random.standard_normal(patient.max() + 1)[patient] * np.sqrt(0.5)
        for s in range(seeds):
            trained = run_noise * random.standard_normal(folds)[fold]
            rest = case_noise * np.sqrt(0.5) * random.standard_normal(cases)
            values[i, s] = difficulty + effect + liking + trained + rest
    return values, patient, fold


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
    """Return what `pair` gives of the table of `simulate`, without the table."""
    values, patient, fold = draw(effects, **design)
    cases = tuple(f"c{i:03d}" for i in range(fold.size))
    patients = tuple(f"p{i:03d}" for i in patient)
    return Paired("dice", tuple(effects), cases, patients, fold, values.mean(axis=1), values)
