"""Studies made up from known noise: difficulty of cases, of folds, of single trainings, and what is left."""

from collections.abc import Mapping

import numpy as np
import pandas as pd


def simulate(
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
) -> pd.DataFrame:
    """Return a long table; the noise of a training (loss x fold x seed) is shared by all cases of its fold."""
    random = np.random.default_rng(seed)
    patient = np.arange(cases) // scans
    fold = patient % folds
    difficulty = 0.85 + 0.05 * random.standard_normal(patient.max() + 1)[patient]
    difficulty += fold_noise * random.standard_normal(folds)[fold]
    parts = []
    for loss, effect in effects.items():
        liking = case_noise * random.standard_normal(patient.max() + 1)[patient] * np.sqrt(0.5)
        for s in range(seeds):
            trained = run_noise * random.standard_normal(folds)[fold]
            rest = case_noise * np.sqrt(0.5) * random.standard_normal(cases)
            value = difficulty + effect + liking + trained + rest
            parts.append(
                pd.DataFrame(
                    {
                        "loss": loss,
                        "fold": fold,
                        "seed": s,
                        "case": [f"c{i:03d}" for i in range(cases)],
                        "patient": [f"p{i:03d}" for i in patient],
                        "metric": "dice",
                        "value": value,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
