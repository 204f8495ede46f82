"""A plan and six prepared cases, for tests of networks, losses and training."""

import json

import numpy as np
import pytest

from pipeline.data.plan import Plan
from pipeline.training.preparation import PreparedCase


@pytest.fixture
def plan():
    return Plan(
        spacing_mm=(1.0, 1.0, 1.0),
        patch=(16, 16, 16),
        batch=2,
        normalisation=("zscore",),
        intensity_range=((0.0, 1.0),),
        intensity_mean=(0.0,),
        intensity_std=(1.0,),
        channels=(4, 8, 16),
        strides=((2, 2, 2), (2, 2, 2)),
        tolerance_mm=1.0,
        metrics=("dice", "hausdorff_mm", "hausdorff95_mm"),
        reasons={},
    )


@pytest.fixture
def prepared(tmp_path):
    """Six cases of a bright ball in noise, as the cache holds them."""
    cases = []
    for index in range(6):
        random = np.random.default_rng(index)
        shape = (18, 20, 14 + index)
        center = np.asarray(shape) / 2 + random.uniform(-2, 2, 3)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        label = (np.linalg.norm(grid - center, axis=-1) < 4).astype(np.uint8)
        image = (label + 0.3 * random.standard_normal(shape)).astype(np.float32)[None]
        folder = tmp_path / "prepared" / f"case{index}"
        folder.mkdir(parents=True)
        np.save(folder / "image.npy", image)
        np.save(folder / "label.npy", label)
        np.savez(folder / "foreground.npz", **{"1": np.flatnonzero(label)})
        affine = np.eye(4).tolist()
        (folder / "prepared.json").write_text(json.dumps({"shape": shape, "affine": affine}))
        cases.append(PreparedCase(f"case{index}", folder, shape, tuple(map(tuple, affine))))
    return tuple(cases)
