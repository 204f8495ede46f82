"""Export of a finished study as a MONAI bundle: weights, configurations, model card, test vector, manifest."""

import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pipeline.bundle.card import model_card
from pipeline.bundle.configurations import configurations
from pipeline.bundle.largest_component import largest_component_effects, out_of_fold_masks
from pipeline.bundle.losses import FALLBACK, LOSSES, is_weighted
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.metadata import LARGE_FILES, Description, large_files, metadata
from pipeline.bundle.model import load_model
from pipeline.bundle.model_settings import ModelSettings, make_settings
from pipeline.bundle.named_network import NamedNetwork, exportable_network
from pipeline.bundle.progress import Progress, Silent
from pipeline.bundle.segment_codes import Segment, coded_segments
from pipeline.bundle.series import default_series_rules
from pipeline.bundle.source import StudySource
from pipeline.bundle.specification import BundleSpec, SeriesRule, spec_error
from pipeline.bundle.statements import BundleParts, Statements
from pipeline.bundle.testvector import write_expected, write_input
from pipeline.bundle.weights import FinalTraining, OnProgress, Origin, costs, final_weights, fold_weights
from pipeline.data.class_weights import DEFAULT_CAP, DEFAULT_POLICY, class_weights
from pipeline.errors import BundleError
from pipeline.network.prediction import WINDOW_OVERLAP
from pipeline.system.files import atomic_path, write_json, write_text


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished bundle.

    `sha256` identifies it, `members` is the number of its networks, and `keep_largest` names the classes of which only
    the largest component is kept.
    """

    root: Path
    name: str
    version: str
    loss: str
    origin: Origin
    members: int
    sha256: str
    keep_largest: tuple[str, ...]


def export_bundle(
    source: StudySource,
    out: Path,
    *,
    origin: Origin = "final",
    name: str | None = None,
    version: str = "1.0.0",
    statements: Statements | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a bundle to `out`, which appears whole or not at all.

    Parameters
    ----------
    source
        The study and the loss to export.
    out
        Folder of the bundle; it must be empty or not exist.
    origin
        Origin of the weights.
    name
        Name of the bundle; by default that of the dataset and the loss.
    version
        Version of the bundle, three numbers.
    statements
        Author, license, codes and series rules.
    progress
        Receives the stages of the export.

    Raises
    ------
    BundleError
        If `out` is not empty, `version` is malformed, or there are no weights.
    ConfigError
        If `statements` has codes for a class that the study does not have.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BundleError(out, "exists already", "give another --out, or remove it")
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise BundleError(f"--version {version}", "is not a version", "give e.g. 1.0.0")
    name = name or re.sub(r"[^A-Za-z0-9_.=-]+", "_", f"{source.dataset.name}_{source.loss.label}").strip("._=-")
    statements, progress = statements or Statements(), progress or Silent()
    # Before any training, since it refuses a network that no bundle can hold.
    network = exportable_network(source.network, source.plan, len(source.dataset.channels), len(source.dataset.classes))
    segments = coded_segments(source.dataset.foreground, statements.codes)
    for cost in costs(source):
        progress.say(f"{'→' if cost.origin == origin else ' '} {cost.line()}")
    weights, members, training = _weights(source, origin, progress)
    on_mask = progress.stage("checking out-of-fold masks", len(out_of_fold_masks(source)))
    effects = tuple(largest_component_effects(source, on_mask))
    keep_largest = tuple(effect.class_name for effect in effects if effect.helps)
    settings = study_settings(source, keep_largest, network)
    spec = make_spec(source, name, members, settings, segments, statements.rules)
    parts = BundleParts(weights, training, effects, version, statements)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=out.parent))
    try:
        temporary.chmod(0o755)
        sha256 = _write_bundle(temporary, source, spec, settings, parts, progress)
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(out, spec.name, version, source.loss.label, origin, members, sha256, keep_largest)


def _weights(
    source: StudySource, origin: Origin, progress: Progress
) -> tuple[dict[str, torch.Tensor], int, FinalTraining | None]:
    """Return the weights, the number of networks, and the settings of the final training if there is one."""
    if origin == "folds":
        return *fold_weights(source), None
    on_step = _stage_on_first_part(progress, f"training {source.loss.label} on all cases")
    weights, training = final_weights(source, on_step, _stage_on_first_part(progress, "preparing cases"))
    return weights, 1, training


def _write_bundle(
    root: Path, source: StudySource, spec: BundleSpec, settings: ModelSettings, parts: BundleParts, progress: Progress
) -> str:
    """Write all files to `root` and return the hash of the manifest."""
    on_file = progress.stage("writing the bundle and its test vector", 3)
    _write_files(root, source, spec, settings, parts)
    on_file(1)
    inputs = write_input(root, spec)
    # The bundle itself predicts its test vector, and only a bundle with a manifest can be loaded.
    write_manifest(root, spec.name, parts.version)
    on_file(2)
    write_expected(root, load_model(root), inputs)
    sha256 = write_manifest(root, spec.name, parts.version)
    on_file(3)
    return sha256


def _stage_on_first_part(progress: Progress, name: str) -> OnProgress:
    """Return a function that begins a stage at its first call, when the number of parts is known."""
    stages: list[Callable[[int], None]] = []

    def report(done: int, of: int) -> None:
        if not stages:
            stages.append(progress.stage(name, of))
        stages[0](done)

    return report


def study_settings(
    source: StudySource, keep_largest: Sequence[str] = (), network: NamedNetwork | None = None
) -> ModelSettings:
    """Return the settings of a study; only the largest component of the classes named in `keep_largest` is kept.

    Where MONAI lacks the loss, the settings have `pipeline.bundle.losses.FALLBACK`.
    """
    is_known = source.loss.name in LOSSES
    loss = source.loss.name if is_known else FALLBACK
    return make_settings(
        source.plan,
        loss,
        source.loss.arguments if is_known else {},
        keep_largest=[
            index for index, name in enumerate(source.dataset.foreground.values(), 1) if name in keep_largest
        ],
        class_weights=_class_weights(source) if is_weighted(loss) else (),
        network=network,
    )


def make_spec(
    source: StudySource,
    name: str,
    members: int,
    settings: ModelSettings,
    segments: Mapping[int, Segment],
    rules: Sequence[SeriesRule] | None = None,
) -> BundleSpec:
    """Return the specification of the bundle.

    Without `rules`, its series rule accepts series of the size and spacing of the training data.

    Raises
    ------
    BundleError
        If the dataset has a class or channel name that a bundle must not have.
    """
    plan, dataset = source.plan, source.dataset
    ranges = source.training_ranges
    if rules is None:
        rules = default_series_rules("CT" if "ct" in plan.normalisation else "MR", ranges)
    try:
        return BundleSpec(
            name=name[:100],
            channels=dataset.channels,
            classes=dataset.foreground,
            several_files=source.several_files,
            spacing_mm=plan.spacing_mm,
            patch=plan.inference_window,
            overlap=WINDOW_OVERLAP,
            batch=plan.batch,
            precision=source.precision,
            members=members,
            tta=plan.tta,
            fingerprint=ranges,
            segments=dict(segments),
            series_rules=tuple(rules),
            recipe=settings,
        )
    except ValidationError as error:
        raise spec_error(error, dataset.root, "correct it in the dataset, then run the study again") from None


def _write_files(
    root: Path, source: StudySource, spec: BundleSpec, settings: ModelSettings, parts: BundleParts
) -> None:
    """Write all files but the test vector and the manifest."""
    for file, content in configurations(spec, settings).items():
        write_json(root / "configs" / f"{file}.json", content)
    content = metadata(spec, settings, _description(source, spec, parts)) | {"segloss": spec.model_dump(mode="json")}
    write_json(root / "configs" / "metadata.json", content)
    # Not directly to the file: torch.save writes the name of a file into it, and a temporary name is random.
    buffer = io.BytesIO()
    torch.save({key: tensor.detach().contiguous().clone() for key, tensor in parts.weights.items()}, buffer)
    with atomic_path(root / "models" / "model.pt") as temporary:
        temporary.write_bytes(buffer.getvalue())
    write_text(root / LARGE_FILES, large_files(root))
    write_text(root / "docs" / "README.md", model_card(source, spec, settings, parts))
    write_text(root / "docs" / "data_license.txt", _data_license(source))
    write_text(root / "LICENSE", parts.statements.license.text)


def _description(source: StudySource, spec: BundleSpec, parts: BundleParts) -> Description:
    means = {metric: summary.mean for metric, summary in source.result.metrics.items()}
    return Description(
        name=spec.name,
        version=parts.version,
        task=f"Segmentation of {', '.join(spec.classes.values())}",
        description=f"{source.network.name or '3D U-Net'} trained with {source.loss.label}, chosen by a study of "
        f"losses on {len(source.dataset.cases)} cases.",
        data_source=source.dataset.name,
        author=parts.statements.author,
        license=parts.statements.license.name,
        evaluation={
            f"mean_{metric}_out_of_fold": round(mean, 4) for metric, mean in means.items() if not math.isnan(mean)
        },
    )


def _class_weights(source: StudySource) -> list[float]:
    """Return the class weights of a weighted loss from all cases, as the study computes them from those of a fold."""
    arguments = source.loss.arguments
    if "weights" in arguments:
        return [float(weight) for weight in arguments["weights"]]
    policy, cap = arguments.get("policy", DEFAULT_POLICY), arguments.get("cap", DEFAULT_CAP)
    return [round(float(weight), 6) for weight in class_weights(source.class_voxels, policy, cap)]


def _data_license(source: StudySource) -> str:
    """Return the dataset's own statement about its license, as ``dataset.json`` of a Decathlon folder has one."""
    stated: dict[str, Any] = {}
    description = source.dataset.root / "dataset.json"
    try:
        value = json.loads(description.read_text(encoding="utf-8"))
        stated = {key: str(value[key])[:500] for key in ("name", "reference", "licence", "license") if value.get(key)}
    except (OSError, ValueError, AttributeError, TypeError):
        pass
    lines = ["This bundle contains no image of the training data; its test vector is synthetic.", ""]
    if "licence" in stated or "license" in stated:
        lines.append("Statement of the dataset that it was trained on:")
        lines += [f"{key}: {text}" for key, text in stated.items()]
    else:
        lines.append("The dataset that it was trained on states no license; ask its owner before distribution.")
    return "\n".join(lines) + "\n"
