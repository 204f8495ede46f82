"""From a finished study to a MONAI bundle: weights, configurations, model card, test vector, manifest."""

import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import torch

from pipeline.bundle import training_configs
from pipeline.bundle.card import model_card
from pipeline.bundle.configurations import configurations
from pipeline.bundle.largest_component import Cleaning, judge_cleaning, out_of_fold_masks
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.metadata import LARGE_FILES, large_files, metadata
from pipeline.bundle.model import load_model
from pipeline.bundle.progress import Progress, Silent
from pipeline.bundle.recipe import Recipe, make_recipe
from pipeline.bundle.segment_codes import Segment, coded_segments
from pipeline.bundle.series import default_series_rules
from pipeline.bundle.source import StudySource
from pipeline.bundle.specification import BundleSpec, build_spec
from pipeline.bundle.statements import Details, Parts
from pipeline.bundle.testvector import write_expected, write_input
from pipeline.bundle.weights import Origin, Report, costs, final_weights, fold_weights
from pipeline.data.class_weights import DEFAULT_CAP, DEFAULT_POLICY, class_weights
from pipeline.errors import BundleError
from pipeline.network.prediction import WINDOW_OVERLAP
from pipeline.system.files import atomic_path, write_json, write_text


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished bundle; `sha256` names it."""

    root: Path
    name: str
    version: str
    loss: str
    origin: Origin
    members: int
    sha256: str
    cleaning: tuple[Cleaning, ...]


def export_bundle(
    source: StudySource,
    out: Path,
    *,
    origin: Origin = "final",
    name: str | None = None,
    version: str = "1.0.0",
    details: Details | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Make a bundle in `out`, which appears whole or not at all and must not exist before.

    Raises
    ------
    BundleError
        Where `out` exists, or there are no weights.
    ConfigError
        Where `details` has codes for a class that the study does not have.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(out, "exists already", "give another --out, or remove it")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise BundleError(f"--version {version}", "is not a version", "give e.g. 1.0.0")
    name = name or re.sub(r"[^A-Za-z0-9_.=-]+", "_", f"{source.dataset.name}_{source.loss.label}").strip("._=-")
    details, progress = details or Details(), progress or Silent()
    segments = coded_segments(source.dataset.foreground, details.codes)
    for cost in costs(source):
        progress.say(f"{'→' if cost.origin == origin else ' '} {cost.line()}")
    told: dict[str, Any] = {}
    if origin == "final":
        training = _reports(progress, f"training {source.loss.label} on all cases")
        weights, told = final_weights(source, training, _reports(progress, "preparing cases"))
        members = 1
    else:
        weights, members = fold_weights(source)
    cleaning = judge_cleaning(source, progress.stage("checking out-of-fold masks", len(out_of_fold_masks(source))))
    recipe = study_recipe(source, [item.class_name for item in cleaning if item.helps])
    spec = make_spec(source, name, members, recipe, segments, details.rules)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=out.parent))
    try:
        temporary.chmod(0o755)
        on_file = progress.stage("writing the bundle and its test vector", 3)
        _write(temporary, source, spec, Parts(weights, told, tuple(cleaning), version, details))
        on_file(1)
        write_manifest(temporary, spec.name, version)
        inputs = write_input(temporary, spec)
        write_manifest(temporary, spec.name, version)
        on_file(2)
        write_expected(temporary, load_model(temporary), inputs)
        sha256 = write_manifest(temporary, spec.name, version)
        on_file(3)
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(out, spec.name, version, source.loss.label, origin, members, sha256, tuple(cleaning))


def _reports(progress: Progress, name: str) -> Report:
    """Return what begins a stage with its first part, and reports each."""
    begun: list[Callable[[int], None]] = []

    def report(done: int, of: int) -> None:
        if not begun:
            begun.append(progress.stage(name, of))
        begun[0](done)

    return report


def study_recipe(source: StudySource, keep_largest: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a study; only the largest component of the classes named in `keep_largest` is kept."""
    loss, arguments = training_configs.own_loss(source.loss.name, dict(source.loss.arguments))
    return make_recipe(
        source.plan,
        loss,
        arguments,
        keep_largest=[
            index for index, name in enumerate(source.dataset.foreground.values(), 1) if name in keep_largest
        ],
        class_weights=_class_weights(source) if "weighted" in loss else (),
    )


def make_spec(
    source: StudySource,
    name: str,
    members: int,
    recipe: Recipe,
    segments: Mapping[int, Segment],
    rules: Sequence[Mapping[str, Any]] | None = None,
) -> BundleSpec:
    """Return the specification of the bundle; without `rules`, its series rule is that of the training data.

    Raises
    ------
    BundleError
        Where the dataset has a class or channel name that a bundle must not have.
    """
    plan, dataset = source.plan, source.dataset
    modality = "CT" if "ct" in plan.normalisation else "MR"
    if rules is None:
        rules = default_series_rules(modality, source.fingerprint)
    return build_spec(
        dataset.root,
        name=name[:100],
        channels=dataset.channels,
        classes=dataset.foreground,
        several_files=source.several_files,
        spacing_mm=plan.spacing_mm,
        patch=plan.inference_window,
        overlap=WINDOW_OVERLAP,
        batch=plan.batch,
        precision=source.settings["precision"],
        members=members,
        tta=plan.tta,
        fingerprint=source.fingerprint,
        segments=dict(segments),
        series_rules=tuple(dict(rule) for rule in rules),
        recipe=recipe,
    )


def _write(root: Path, source: StudySource, spec: BundleSpec, parts: Parts) -> None:
    """Write all files but the test vector and the manifest."""
    plan, classes = source.plan, source.dataset.foreground
    assert spec.recipe is not None
    for file, content in {
        **configurations(spec, spec.recipe),
        "metadata": metadata(
            plan,
            spec,
            version=parts.version,
            task=f"Segmentation of {', '.join(classes.values())}",
            description=f"3D U-Net trained with {source.loss.label}, chosen by a study of losses on "
            f"{len(source.dataset.cases)} cases.",
            channels=source.dataset.channels,
            classes=classes,
            evaluation=_evaluation(source),
            data_source=source.dataset.name,
            author=parts.details.author,
            license_name=parts.details.license.name,
        ),
    }.items():
        if spec.recipe.keep_largest and file == "metadata":
            content["required_packages_version"] |= {"scikit-image": installed("scikit-image")}
        write_json(root / "configs" / f"{file}.json", content)
    weights = {key: tensor.detach().contiguous().clone() for key, tensor in parts.weights.items()}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    with atomic_path(root / "models" / "model.pt") as temporary:
        temporary.write_bytes(buffer.getvalue())
    write_text(root / LARGE_FILES, large_files(root))
    write_text(root / "docs" / "README.md", model_card(source, spec, parts))
    write_text(root / "docs" / "data_license.txt", _data_license(source))
    write_text(root / "LICENSE", parts.details.license.text)


def _class_weights(source: StudySource) -> list[float]:
    """Return the weights of a weighted loss, of all cases, as the study computes them of a fold's."""
    arguments = source.loss.arguments
    if "weights" in arguments:
        return [float(weight) for weight in arguments["weights"]]
    policy, cap = arguments.get("policy", DEFAULT_POLICY), arguments.get("cap", DEFAULT_CAP)
    return [round(float(weight), 6) for weight in class_weights(source.class_voxels, policy, cap)]


def _evaluation(source: StudySource) -> dict[str, Any]:
    found: dict[str, Any] = next((e for e in source.verdict["losses"] if e["name"] == source.loss.label), {})
    return {
        f"mean_{metric}_out_of_fold": round(values["mean"], 4)
        for metric, values in (found.get("metrics") or {}).items()
        if values.get("mean") is not None
    }


def _data_license(source: StudySource) -> str:
    """Return what the dataset says of its licence; a Decathlon folder states one."""
    stated: dict[str, Any] = {}
    description = source.dataset.root / "dataset.json"
    try:
        value = json.loads(description.read_text(encoding="utf-8"))
        stated = {key: str(value[key])[:500] for key in ("name", "reference", "licence", "license") if value.get(key)}
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    lines = ["This bundle holds no image of the training data; its test vector is made up.", ""]
    if "licence" in stated or "license" in stated:
        lines += ["The dataset it was trained on says of itself:", *(f"{key}: {text}" for key, text in stated.items())]
    else:
        lines.append("The dataset it was trained on states no licence; ask its owner before passing the bundle on.")
    return "\n".join(lines) + "\n"
