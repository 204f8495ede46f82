"""``configs/metadata.json``, valid against MONAI's published schema, and ``large_files.yml`` as in its model zoo."""

from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from pipeline.bundle.specification import BundleSpec
from pipeline.data.plan import Plan
from pipeline.system.files import sha256_of_file

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
PACKAGES = ("fire", "nibabel", "pytorch-ignite", "scipy")
"""What a bundle needs beside MONAI, torch and numpy; ``python -m monai.bundle`` imports fire."""
TRACKING_PACKAGES = ("mlflow",)
UNSTATED = "not stated"
LARGE_FILES = "large_files.yml"
LIMITS = "Research use only: not a medical device. Results are to be checked by an expert."


def metadata(
    plan: Plan,
    spec: BundleSpec | None,
    *,
    version: str,
    task: str,
    description: str,
    channels: tuple[str, ...],
    classes: Mapping[int, str],
    evaluation: Mapping[str, Any],
    data_source: str,
    author: str = UNSTATED,
    license_name: str = "Apache-2.0",
) -> dict[str, Any]:
    """Return the metadata; `spec` is None where there is no trained network."""
    names = ["background", *classes.values()]
    image = {
        "type": "image",
        "format": "magnitude" if "ct" not in plan.normalisation else "hounsfield",
        "modality": "CT" if "ct" in plan.normalisation else "any",
        "num_channels": len(channels),
        "spatial_shape": list(plan.inference_window),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(index): name for index, name in enumerate(channels)},
    }
    pred = {
        "type": "image",
        "format": "segmentation",
        "num_channels": len(names),
        "spatial_shape": list(plan.inference_window),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": True,
        "channel_def": {str(index): name for index, name in enumerate(names)},
    }
    found = {
        "schema": SCHEMA,
        "version": version,
        "changelog": {version: "exported by segloss"},
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages_version": {name: installed(name) for name in PACKAGES},
        "optional_packages_version": {name: installed(name) for name in TRACKING_PACKAGES},
        "supported_apps": {},
        "name": spec.name if spec else task,
        "task": task,
        "description": description,
        "authors": author,
        "copyright": author,
        "license": license_name,
        "data_source": data_source,
        "data_type": "nibabel",
        "image_classes": ", ".join(channels),
        "label_classes": ", ".join(f"{value}: {name}" for value, name in {0: "background", **classes}.items()),
        "pred_classes": ", ".join(f"{index}: {name}" for index, name in enumerate(names)),
        "eval_metrics": dict(evaluation),
        "intended_use": LIMITS,
        "references": [],
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
    }
    return found | ({"segloss": spec.model_dump(mode="json")} if spec else {})


def large_files(root: Path, weights: str = "models/model.pt") -> str:
    """Return ``large_files.yml``: path and hash of the weights, as the model zoo lists files that are stored elsewhere.

    The address is empty since the weights are in the bundle: MONAI's ``download_large_files`` compares the hash and
    downloads nothing. Whoever publishes the bundle without its weights fills it in.
    """
    lines = ["large_files:", f'- path: "{weights}"', '  url: ""', f'  hash_val: "{sha256_of_file(root / weights)}"']
    return "\n".join([*lines, '  hash_type: "sha256"', ""])
