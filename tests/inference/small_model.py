"""A model without training: voxels above one threshold are one class, those above a second one another."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser

from pipeline.bundle.configurations import inference_config
from pipeline.bundle.model import Model
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.specification import BundleSpec, TrainingRanges
from pipeline.data.plan import Plan

CLASSES = {1: "shell", 2: "core"}
SHAPE = (20, 24, 18)


def small_plan(channels=1, spacing_mm=(1.0, 1.0, 1.0), patch=(16, 16, 16)):
    return Plan(
        spacing_mm=spacing_mm,
        patch=patch,
        batch=2,
        normalisation=("zscore",) * channels,
        intensity_range=((0.0, 1.0),) * channels,
        intensity_mean=(0.0,) * channels,
        intensity_std=(1.0,) * channels,
        channels=(4, 8),
        strides=((2, 2, 2),),
        tolerance_mm=1.0,
        metrics=("dice",),
        reasons={},
    )


def small_model(channels=("MR",), spacing_mm=(1.0, 1.0, 1.0), keep_largest=(), classes=None, **changes):
    """Return a real `Model` with MONAI's transforms around a 1 x 1 x 1 convolution."""
    classes = CLASSES if classes is None else classes
    plan = small_plan(len(channels), spacing_mm)
    fingerprint = TrainingRanges(
        cases=3, spacing_mm=((1.0, 1.0),) * 3, shape=((16, 32),) * 3, intensity=((50.0, 400.0),) * len(channels)
    )
    spec = BundleSpec(
        name="small",
        channels=channels,
        classes=classes,
        several_files=len(channels) > 1,
        spacing_mm=plan.spacing_mm,
        patch=plan.patch,
        overlap=0.25,
        batch=2,
        precision="float32",
        members=1,
        fingerprint=fingerprint,
        segments=default_segments(classes),
    )
    parser = ConfigParser(inference_config(spec, make_settings(plan, "dice_ce", {}, keep_largest=keep_largest)))
    parts = {name: parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "restoring", "deciding")}
    network = torch.nn.Conv3d(len(channels), len(classes) + 1, 1)
    with torch.no_grad():
        steps = torch.arange(len(classes) + 1.0)
        network.weight[:] = (2 * steps)[:, None, None, None, None] / len(channels)
        network.bias[:] = -(steps**2)
    model = Model(
        name=spec.name,
        version="1.0.0",
        sha256="ab" * 32,
        channels=channels,
        classes=dict(classes),
        fingerprint=fingerprint.model_dump(),
        segments={value: segment.model_dump() for value, segment in spec.segments.items()},
        series_rules=[],
        spacing_mm=plan.spacing_mm,
        patch=plan.patch,
        overlap=0.25,
        batch=2,
        precision="float32",
        tta=False,
        device=torch.device("cpu"),
        network=network.eval(),
        **parts,
    )
    return replace(model, **changes)


def head(seed=0, shape=SHAPE):
    """Return a bright ball with a brighter core on noise, (X, Y, Z) int16."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes)) + 0.02 * seed
    return (random.normal(60, 8, shape) + 120 * (radius < 0.8) + 200 * (radius < 0.4)).astype(np.int16)


def save_head(path, seed=0, shape=SHAPE, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(head(seed, shape), affine), path)
    return path
