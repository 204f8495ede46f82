"""``configs/metadata.json``, valid against MONAI's published schema, and ``large_files.yml`` as in its model zoo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path

from pipeline.bundle.model_settings import ModelSettings
from pipeline.bundle.specification import BundleSpec
from pipeline.bundle.template import Config, Json, fill_template
from pipeline.system.files import sha256_of_file

PACKAGES = ("fire", "nibabel", "pytorch-ignite", "scipy")
"""Packages that a bundle needs beside MONAI, torch and numpy; ``python -m monai.bundle`` imports fire."""

LARGEST_COMPONENT_PACKAGES = ("scikit-image",)
"""Packages that MONAI needs, too, to keep the largest component of a class."""

TRACKING_PACKAGES = ("mlflow",)
UNSTATED = "not stated"
LARGE_FILES = "large_files.yml"
INTENDED_USE = "Research use only: not a medical device. Results are to be checked by an expert."


@dataclass(frozen=True, slots=True)
class Description:
    """Texts of the metadata that do not follow from the specification of a bundle.

    `license` is an SPDX identifier or ``see LICENSE``; `evaluation` holds results of the study by name.
    """

    name: str
    version: str
    task: str
    description: str
    data_source: str
    author: str = UNSTATED
    license: str = "Apache-2.0"
    evaluation: Mapping[str, float] = field(default_factory=dict)


def required_packages(settings: ModelSettings) -> tuple[str, ...]:
    """Return the packages that a bundle needs beside MONAI, torch and numpy."""
    return (*PACKAGES, *(LARGEST_COMPONENT_PACKAGES if settings.keep_largest else ()))


def metadata(spec: BundleSpec, settings: ModelSettings, description: Description) -> Config:
    """Return the metadata of MONAI; a bundle with weights has the specification under ``segloss``, too."""
    labels = {0: "background", **spec.classes}
    classes = dict(enumerate(labels.values()))
    is_ct = "ct" in settings.normalisation
    values: dict[str, Json] = {
        "name": description.name,
        "version": description.version,
        "changelog": {description.version: "exported by whichloss"},
        "task": description.task,
        "description": description.description,
        "author": description.author,
        "license": description.license,
        "data_source": description.data_source,
        "evaluation": dict(description.evaluation),
        "intended_use": INTENDED_USE,
        "monai_version": installed("monai"),
        "pytorch_version": installed("torch").split("+")[0],
        "numpy_version": installed("numpy"),
        "required_packages": _versions(required_packages(settings)),
        "optional_packages": _versions(TRACKING_PACKAGES),
        "image_classes": ", ".join(spec.channels),
        "label_classes": _enumerated(labels),
        "pred_classes": _enumerated(classes),
        "image_format": "hounsfield" if is_ct else "magnitude",
        "modality": "CT" if is_ct else "any",
        "channels": len(spec.channels),
        "channel_names": {str(index): name for index, name in enumerate(spec.channels)},
        "classes": len(classes),
        "class_names": {str(index): name for index, name in classes.items()},
        "window": spec.patch,
    }
    return fill_template("metadata", values)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    return {name: installed(name) for name in packages}


def _enumerated(names: Mapping[int, str]) -> str:
    return ", ".join(f"{number}: {name}" for number, name in names.items())


def large_files(root: Path, weights: str = "models/model.pt") -> str:
    """Return ``large_files.yml``: path and hash of the weights, as the model zoo lists files that are stored elsewhere.

    The address is empty since the weights are in the bundle: MONAI's ``download_large_files`` compares the hash and
    downloads nothing. Whoever publishes the bundle without its weights fills it in.
    """
    lines = ["large_files:", f'- path: "{weights}"', '  url: ""', f'  hash_val: "{sha256_of_file(root / weights)}"']
    return "\n".join([*lines, '  hash_type: "sha256"', ""])
