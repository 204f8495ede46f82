"""The model card of an exported bundle, ``docs/README.md``."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.bundle.largest_component import Cleaning
from pipeline.bundle.losses import LOSSES
from pipeline.bundle.metadata import LIMITS, PACKAGES, TRACKING_PACKAGES
from pipeline.bundle.segment_codes import PRIVATE_SCHEME
from pipeline.bundle.source import StudySource
from pipeline.bundle.specification import BundleSpec
from pipeline.bundle.statements import Parts

_MEANING = {
    "winner": "better than every other loss of the study",
    "equivalent": "chosen among losses that are the same within the margin",
    "inconclusive": "recommended although the study could not tell the best losses apart",
}

_FOLDERS = (
    "`--dataset_dir` is the folder of a dataset with `imagesTr`, `labelsTr` and `imagesTs`, for every configuration. "
    "Inference segments the images of `imagesTs`, or those in the folder itself where it has no `imagesTs`. Outputs go "
    "to `BUNDLE_predictions` and `BUNDLE_eval` beside the bundle unless `--output_dir` names another folder. Keep them "
    "out of the bundle: `segloss predict` compares its files with its manifest."
)
_CHECKPOINT = (
    "Without `--ckpt_path` training replaces `models/model.pt`, and evaluation and inference read it there, as in "
    "MONAI's model zoo. After that `segloss predict` refuses the bundle until `segloss bundle reseal BUNDLE` records "
    "the change."
)


def model_card(source: StudySource, spec: BundleSpec, parts: Parts) -> str:
    """Return the card as Markdown."""
    details = parts.details
    sections = [
        f"# {_plain(spec.name)} {parts.version}",
        f"Segments {_listed(spec.classes.values())} in volumes of {_listed(spec.channels)}. {LIMITS}",
        "## Origin",
        _origin(source, spec, parts.training),
        f"Author: {_plain(details.author)}. License: {_plain(details.license.name)} (`LICENSE`); what the dataset says "
        "of its own license is in `docs/data_license.txt`.",
        "## Verdict of the study",
        _verdict(source),
        "## Out-of-fold results of this loss",
        "Each case was predicted by networks that never saw it. Mean over cases with its 95 % interval; distances in "
        "mm; a structure that was missed counts as overlap 0 and as the diagonal of the image.",
        _results(source),
        "Predicted with test-time augmentation, the mean of nine predictions, slightly turned, as `segloss predict` "
        "does with this bundle. MONAI alone predicts once, which is a little less exact."
        if spec.tta
        else "",
        ""
        if spec.members > 1
        else "The network of this bundle was trained on all cases, so that none is left to test it "
        "on; the figures are those of the networks of the folds, trained alike on fewer cases.",
        "## Post-processing",
        _cleaning(parts.cleaning),
        "## Training data",
        _fingerprint(spec),
        "## Intended use and limits",
        f"- {LIMITS}\n"
        "- For images like the training data: same modality, sequence, region and kind of patient. Spacing, size and "
        "intensities outside the ranges above are a reason to doubt the result; `segloss predict` warns of them.\n"
        "- It knows the classes above only; anything else is background. It does not say how sure it is: probabilities "
        "of networks trained with overlap losses are over-confident.\n"
        "- Not examined: differences between scanners, sites, age, sex or disease beyond what the study's cases hold.",
        "## Series and codes",
        _series(spec),
        "## Use",
        _needs(parts),
        "```bash\n"
        "python -m monai.bundle run --config_file configs/inference.json --bundle_root . \\\n"
        "    --dataset_dir IMAGES --output_dir MASKS\n"
        f"segloss predict BUNDLE IMAGES --out MASKS{' --no-tta' if spec.tta else ''}     "
        "# the same masks, with checks, warnings and a report\n"
        "```",
        _input(source, spec),
        _FOLDERS,
        "Train the same network on other data and evaluate it:",
        "```bash\n"
        "python -m monai.bundle run --config_file configs/train.json --bundle_root . --dataset_dir DATA \\\n"
        f"    --ckpt_path ../{spec.name}_trained/model.pt\n"
        "python -m monai.bundle run --config_file configs/evaluate.json --bundle_root . --dataset_dir DATA \\\n"
        f"    --ckpt_path ../{spec.name}_trained/model.pt\n"
        "```",
        _CHECKPOINT,
        _training_note(source),
        "`manifest.json` has the SHA-256 of every file; its own SHA-256 identifies the bundle. `test_vector/` has a "
        "synthetic input (no patient's) and the mask that belongs to it; `segloss verify BUNDLE` compares them.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _needs(parts: Parts) -> str:
    packages = [*PACKAGES, *(["scikit-image"] if any(item.helps for item in parts.cleaning) else [])]
    return (
        f"Needs MONAI, PyTorch, {', '.join(packages)}, and {', '.join(TRACKING_PACKAGES)} for tracking; "
        "`configs/metadata.json` has the versions."
    )


def _series(spec: BundleSpec) -> str:
    lines = ["`segloss predict` takes one DICOM series of a study; the first rule that any series meets decides:"]
    for rule in spec.series_rules:
        conditions = json.dumps(rule.get("conditions", {})).replace("`", "'")
        lines.append(f"- {_plain(str(rule.get('name', 'rule')))}: `{conditions}`")
    if not spec.series_rules:
        lines = ["There is no rule for DICOM series: a study must hold one volume only."]
    lines += ["", "DICOM codes of the classes:"]
    for segment in spec.segments.values():
        terms = [f"{code.meaning} ({code.value}, {code.scheme})" for code in (segment.type, *segment.modifiers)]
        lines.append(f"- {_plain(segment.label)}: {_plain(', '.join(terms))}")
    if any(segment.type.scheme == PRIVATE_SCHEME for segment in spec.segments.values()):
        lines += [
            "",
            f"Codes of the scheme {PRIVATE_SCHEME} are private: no standard code is known for the class's name.",
        ]
    return "\n".join(lines)


def _origin(source: StudySource, spec: BundleSpec, weights: Mapping[str, Any]) -> str:
    settings = source.settings
    formula = next(e.get("formula", "") for e in settings["losses"] if e["label"] == source.loss.label)
    text = (
        f"Loss: **{source.loss.label}**{f' ({formula})' if formula else ''}, chosen by a study of "
        f"{_listed(entry['label'] for entry in settings['losses'])} over {settings['folds']} folds and "
        f"{len(settings['seeds'])} seed{'s' * (len(settings['seeds']) > 1)} on {len(source.dataset.cases)} cases, "
        f"{settings['budget']['steps']} steps a run. "
    )
    if spec.members > 1 or "steps" not in weights:
        return (
            text + f"Weights: the networks of all {spec.members} runs of this loss; the bundle takes the mean of their "
            "logits."
        )
    return text + (
        f"Weights: a final training on all cases with the same budget and preprocessing, learning rate "
        f"{weights['learning_rate']:g} (the median of what the runs chose), in {weights['precision']}."
    )


def _verdict(source: StudySource) -> str:
    verdict = source.verdict
    chosen, label = verdict.get("recommended"), source.loss.label
    if label == chosen:
        lines = [f"`{verdict['verdict']}`: {label} is {_MEANING.get(verdict['verdict'], 'recommended')}."]
    else:
        lines = [
            f"`{verdict['verdict']}`; the study recommends {chosen}, this bundle was made with {label} on request."
        ]
    primary = verdict.get("primary", "dice")
    for pair in verdict.get("pairs", []):
        if pair["metric"] == primary and label in (pair["a"], pair["b"]):
            low, high = pair.get("ci_low"), pair.get("ci_high")
            interval = "" if low is None or high is None else f" (95 % interval {low:+.4f} to {high:+.4f})"
            lines.append(f"- {pair['a']} minus {pair['b']} in {primary}: {pair['difference']:+.4f}{interval}")
    return "\n".join(lines)


def _results(source: StudySource) -> str:
    found = next((e for e in source.verdict["losses"] if e["name"] == source.loss.label), None)
    if found is None or not found.get("metrics"):
        return ""
    rows = ["| metric | mean | 95 % interval | cases |", "|---|---|---|---|"]
    for name, values in found["metrics"].items():
        low, high = values.get("ci_low"), values.get("ci_high")
        interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
        mean = "" if values.get("mean") is None else f"{values['mean']:.4g}"
        rows.append(f"| {name} | {mean} | {interval} | {values.get('cases', '')} |")
    counts = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in (found.get("counts") or {}).items())
    return "\n".join(rows) + (f"\n\nStructures over cases and classes: {counts}." if counts else "")


def _cleaning(cleaning: Sequence[Cleaning]) -> str:
    if not cleaning:
        return "None: the study kept no masks to judge it on."
    lines = ["Keeping only the largest component of a class, judged on the out-of-fold masks (change in Dice):"]
    lines.extend(
        f"- {_plain(item.class_name)}: {item.gain:+.4f} (95 % interval {item.ci_low:+.4f} to {item.ci_high:+.4f}, "
        f"{item.cases} cases): {'applied' if item.helps else 'not applied'}"
        for item in cleaning
    )
    return "\n".join(lines)


def _fingerprint(spec: BundleSpec) -> str:
    found = spec.fingerprint
    rows = [f"{found.cases} cases.", "", "| | lowest | highest |", "|---|---|---|"]
    for axis, spacing in zip("RAS", found.spacing_mm, strict=True):
        rows.append(f"| spacing along {axis}, mm | {spacing[0]:.4g} | {spacing[1]:.4g} |")
    for axis, shape in zip("RAS", found.shape, strict=True):
        rows.append(f"| voxels along {axis} | {shape[0]} | {shape[1]} |")
    for name, (low, high) in zip(spec.channels, found.intensity, strict=True):
        rows.append(f"| intensity of {_plain(name)} within structures (0.5 to 99.5 %) | {low:.5g} | {high:.5g} |")
    return "\n".join(rows)


def _input(source: StudySource, spec: BundleSpec) -> str:
    if spec.several_files:
        named = ", ".join(f"`case_{index:04d}.nii.gz` ({_plain(name)})" for index, name in enumerate(spec.channels))
        return f"Inputs: one file a channel, {named}, all on one grid."
    return "Inputs: one NIfTI file a case" + (
        f", 4D with {len(spec.channels)} channels." if len(spec.channels) > 1 else "."
    )


def _training_note(source: StudySource) -> str:
    note = (
        "`train.json` is MONAI's machinery with the same network, preprocessing and loss; the study's own training "
        "(paired randomness, averaged weights) is not part of the bundle."
    )
    if source.loss.name not in LOSSES:
        note += f" MONAI has no `{source.loss.name}`, so `train.json` trains with dice_ce instead."
    return note


def _listed(names: Any) -> str:
    return ", ".join(_plain(str(name)) for name in names)


def _plain(text: str) -> str:
    """Return user-given text without what Markdown or HTML would act upon."""
    return re.sub(r"[<>|`*\[\]\\\n\r]+", " ", text).strip()
