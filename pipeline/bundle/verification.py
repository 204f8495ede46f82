"""Acceptance of a bundle on a machine: the test vector is predicted and compared with the result of the export."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

import numpy as np

from pipeline.bundle.checking import Refused, parse_json
from pipeline.bundle.loading import METADATA
from pipeline.bundle.model import Model, bundle_folder, load_model
from pipeline.bundle.template import Config
from pipeline.bundle.testvector import FOLDER, Expected, mask_hash, read_expected, sampled_logits
from pipeline.data.nifti import read_volume
from pipeline.errors import BundleError

LOGIT_TOLERANCE = 0.01
"""Accepted difference of a network output, as a fraction of the largest output."""

TIE = 0.01
"""Largest difference of the probabilities of two classes between which rounding may decide."""

MAXIMUM_BYTES = 1 << 30
"""Bytes that an image of the test vector may claim in memory."""

_AGAIN = "get the bundle again, or export it again with `whichloss export`"
_PACKAGES = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


@dataclass(frozen=True, slots=True)
class PackageVersion:
    """Version of a package as the bundle states it, and as installed here; None where it is not installed."""

    package: str
    bundle: str
    here: str | None


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """Voxels of one class in the stored and in the computed mask; `dice` is None where neither has any."""

    value: int
    name: str
    expected_voxels: int
    found_voxels: int
    dice: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference between the prediction of the test vector and the stored one.

    Attributes
    ----------
    voxels
        Size of the mask.
    different_voxels
        Number of voxels with another label.
    tied_voxels
        Number of those whose two classes have probabilities within `TIE`.
    classes
        Agreement of each class.
    logit_difference, logit_tolerance
        Largest difference of a sampled network output, and the accepted one.
    problems
        Differences beyond the tolerances, in words.
    """

    voxels: int
    different_voxels: int
    tied_voxels: int
    classes: tuple[ClassAgreement, ...]
    logit_difference: float
    logit_tolerance: float
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """Result of `verify_bundle`; the bundle is accepted if there are no `problems`."""

    root: Path
    name: str
    version: str
    sha256: str
    device: str
    configurations: tuple[str, ...]
    versions: tuple[PackageVersion, ...]
    comparison: Comparison
    problems: tuple[str, ...]


def verify_bundle(
    bundle: Path | str,
    *,
    device: str = "cpu",
    allow_code: str | None = None,
    check_model: Callable[[Model], object] = lambda model: None,
) -> Verification:
    """Check the files of a bundle, predict its test vector on `device` and compare.

    Parameters
    ----------
    bundle
        A folder made by ``whichloss export``, or ``models:/NAME@ALIAS``.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    allow_code
        As for `pipeline.bundle.model.load_model`; the configurations are then not checked.
    check_model
        Raises an error for a model that cannot be used, e.g. because of its series rules.

    Raises
    ------
    BundleError
        If the bundle is refused or has no usable test vector.
    """
    root = bundle_folder(bundle)
    model = load_model(root, device=device, allow_code=allow_code)
    check_model(model)
    metadata = _metadata(root)
    comparison = compare_test_vector(root, model)
    checked = () if allow_code else tuple(sorted(p.stem for p in (root / METADATA).parent.glob("*.json")))
    return Verification(
        root=root,
        name=model.name,
        version=model.version,
        sha256=model.sha256,
        device=device,
        configurations=tuple(name for name in checked if name != "metadata"),
        versions=_versions(metadata),
        comparison=comparison,
        problems=(*name_problems(metadata, model), *comparison.problems),
    )


def compare_test_vector(root: Path, model: Model) -> Comparison:
    """Predict the test vector of the bundle in `root` and compare mask, network outputs and class names.

    Another machine rounds differently. So a voxel may get another class if both are about equally probable, and network
    outputs may differ slightly; exchanged labels or weights are far outside of both tolerances.

    Raises
    ------
    BundleError
        If the test vector is malformed.
    """
    stored = read_expected(root)
    mask = _stored_mask(root, stored)
    for name in stored.inputs:
        _checked_volume(root / FOLDER / name)
    prepared = model.prepare([root / FOLDER / name for name in stored.inputs])
    scores = model.infer(prepared)
    predicted, probabilities = model.finish(prepared, scores, probabilities=True)
    assert probabilities is not None
    problems = _class_problems(stored, model)
    if predicted.shape != mask.shape:
        raise BundleError(root / FOLDER / stored.expected, f"has shape {mask.shape}, not {predicted.shape}", _AGAIN)
    different = predicted != mask
    tied = _ties(predicted, mask, probabilities, model)
    beyond = different & ~tied
    if beyond.any():
        problems.append(
            f"{_count(int(beyond.sum()))} beyond rounding, {_confusion(predicted[beyond], mask[beyond], model)}"
        )
    logit_difference, logit_tolerance = _logits(sampled_logits(scores), stored.logits)
    if not logit_difference <= logit_tolerance:
        problems.append(
            f"the network's outputs differ by up to {logit_difference:.3g}, the tolerance is {logit_tolerance:.2g}"
        )
    return Comparison(
        voxels=int(mask.size),
        different_voxels=int(different.sum()),
        tied_voxels=int(tied.sum()),
        classes=tuple(
            _agreement(value, name, mask == value, predicted == value) for value, name in model.classes.items()
        ),
        logit_difference=logit_difference,
        logit_tolerance=logit_tolerance,
        problems=tuple(problems),
    )


def _stored_mask(root: Path, stored: Expected) -> np.ndarray:
    """Return the stored mask (X, Y, Z) of label values."""
    path = root / FOLDER / stored.expected
    mask = np.rint(_checked_volume(path)).astype(np.int64)
    if mask.min() < 0 or mask_hash(mask) != stored.sha256_mask:
        raise BundleError(path, "is not the mask of expected.json", _AGAIN)
    return mask


def _checked_volume(path: Path) -> np.ndarray:
    if not path.is_file():
        raise BundleError(path, "is missing", _AGAIN)
    return read_volume(path, MAXIMUM_BYTES)[0]


def _ties(predicted: np.ndarray, mask: np.ndarray, probabilities: np.ndarray, model: Model) -> np.ndarray:
    """Return a mask (X, Y, Z) of the voxels whose different labels have probabilities (C, X, Y, Z) within `TIE`."""
    index = {value: position for position, value in enumerate((0, *model.classes))}
    tied = np.zeros(mask.shape, dtype=bool)
    for x, y, z in np.argwhere(predicted != mask).tolist():
        expected = index.get(int(mask[x, y, z]))
        if expected is not None:
            computed = probabilities[index[int(predicted[x, y, z])], x, y, z]
            tied[x, y, z] = abs(float(computed) - float(probabilities[expected, x, y, z])) <= TIE
    return tied


def _confusion(predicted: np.ndarray, expected: np.ndarray, model: Model) -> str:
    """Return the most frequent confusion of label values (N,) that all differ, as text."""
    pairs, counts = np.unique(np.stack([expected, predicted.astype(np.int64)]), axis=1, return_counts=True)
    before, now = pairs[:, counts.argmax()].tolist()
    return f"most often {_named(now, model)} instead of {_named(before, model)}"


def _named(value: int, model: Model) -> str:
    name = "background" if value == 0 else model.classes.get(value, "not a class")
    return f"label {value} ({name})"


def _logits(computed: Sequence[Sequence[float]], stored: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Return the largest difference and the tolerance; the difference is infinite if the shapes differ."""
    expected = np.asarray(stored)
    tolerance = LOGIT_TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0)))
    actual = np.asarray(computed)
    if actual.shape != expected.shape:
        return float("inf"), tolerance
    return float(np.abs(actual - expected).max()), tolerance


def _agreement(value: int, name: str, expected: np.ndarray, predicted: np.ndarray) -> ClassAgreement:
    voxels = int(expected.sum()), int(predicted.sum())
    dice = 2 * int((expected & predicted).sum()) / sum(voxels) if sum(voxels) else None
    return ClassAgreement(value, name, *voxels, dice)


def _class_problems(stored: Expected, model: Model) -> list[str]:
    return [
        f"label {value} is {model.classes.get(value)!r} in the metadata, but {stored.classes.get(value)!r} "
        "in the test vector"
        for value in sorted(stored.classes.keys() | model.classes.keys())
        if stored.classes.get(value) != model.classes.get(value)
    ]


def name_problems(metadata: Config, model: Model) -> list[str]:
    """Return the problem of names of the network's outputs that differ between ``segloss`` and MONAI's metadata."""
    expected = {str(index): name for index, name in enumerate(("background", *model.classes.values()))}
    try:
        found = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    except (KeyError, TypeError):
        return ["the metadata has no channel_def of the network's output"]
    return [] if found == expected else ["the metadata names the network's outputs differently in channel_def"]


def _versions(metadata: Config) -> tuple[PackageVersion, ...]:
    stated = {package: metadata.get(key) for key, package in _PACKAGES.items()}
    others = metadata.get("required_packages_version")
    stated |= others if isinstance(others, dict) else {}
    return tuple(
        PackageVersion(package, str(version), _installed(package)) for package, version in stated.items() if version
    )


def _installed(package: str) -> str | None:
    try:
        return installed(package).split("+")[0]
    except (PackageNotFoundError, ValueError):
        return None


def _metadata(root: Path) -> Config:
    try:
        value = parse_json((root / METADATA).read_bytes())
    except Refused as refused:
        raise BundleError(root / METADATA, str(refused), _AGAIN) from None
    return value if isinstance(value, dict) else {}


def _count(voxels: int) -> str:
    return f"{voxels} voxel differs" if voxels == 1 else f"{voxels} voxels differ"
