"""Validation and out-of-fold prediction: MONAI's `SupervisedEvaluator` with our metrics panel per case."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.utils import CommonKeys
from torch import nn

from pipeline.data.dataset import Case
from pipeline.data.plan import Plan
from pipeline.metrics.panel import PanelSettings, evaluate_case
from pipeline.metrics.thresholds import THRESHOLDS, dice_at_thresholds
from pipeline.network.precision import Precision
from pipeline.network.prediction import sliding_inferer, to_original_grid, write_mask
from pipeline.network.sliding_window import predicted_classes
from pipeline.network.test_time_augmentation import RotationEnsemble
from pipeline.records.events import StateCounts, ValidationEvent
from pipeline.records.table import Score
from pipeline.training.average_precision import average_precision
from pipeline.training.preparation import PreparedCase

CURVE_METRICS = ("dice", "hausdorff_mm", "hausdorff95_mm")


@dataclass(frozen=True, slots=True)
class _Cases:
    """Prepared cases one by one, as batches of one; re-iterable."""

    cases: Sequence[PreparedCase]

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for case in self.cases:
            yield {"image": torch.from_numpy(np.array(case.image()))[None], "case": case}


def _evaluator(
    network: nn.Module, cases: Sequence[PreparedCase], plan: Plan, precision: Precision, device: torch.device
) -> SupervisedEvaluator:
    def prepare_batch(
        batch: dict[str, Any], device: torch.device, non_blocking: bool, **_: Any
    ) -> tuple[torch.Tensor, None]:
        return batch["image"].to(device, non_blocking=non_blocking), None

    return SupervisedEvaluator(
        device=device,
        val_data_loader=_Cases(cases),
        epoch_length=len(cases),
        network=network,
        inferer=sliding_inferer(plan, precision, device),
        prepare_batch=prepare_batch,
        decollate=False,
    )


@dataclass
class CurvePoint:
    """Scores of the validation cases on the prepared grid, for the curves over steps."""

    classes: Mapping[int, str]
    scores: list[Score] = field(default_factory=list)

    def event(self, step: int, seconds: float) -> ValidationEvent:
        """Return means per class and metric after a step, with the counts of states beside them."""
        names = list(self.classes.values())
        means = {metric: {name: self._mean(metric, name) for name in names} for metric in CURVE_METRICS}
        states = [score.state for score in self.scores if score.metric == "dice"]
        return ValidationEvent(
            step=step,
            seconds=seconds,
            dice=means["dice"],
            hausdorff_mm=means["hausdorff_mm"],
            hausdorff95_mm=means["hausdorff95_mm"],
            mean_dice=mean_dice(self.scores),
            counts=StateCounts(
                ok=states.count("ok"),
                missed=states.count("missed"),
                false_positive=states.count("false_positive"),
                correct_absence=states.count("correct_absence"),
            ),
        )

    def _mean(self, metric: str, name: str) -> float | None:
        found = [s.value for s in self.scores if s.metric == metric and s.class_name == name and s.value is not None]
        return float(np.mean(found)) if found else None


def mean_dice(scores: Sequence[Score]) -> float | None:
    """Return the mean over classes of the mean Dice over cases where it is defined."""
    by_class: dict[str, list[float]] = {}
    for score in scores:
        if score.metric == "dice" and score.value is not None:
            by_class.setdefault(score.class_name, []).append(score.value)
    return float(np.mean([np.mean(found) for found in by_class.values()])) if by_class else None


def validate(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    plan: Plan,
    classes: Mapping[int, str],
    precision: Precision,
    device: torch.device,
    metrics: Sequence[str] = CURVE_METRICS,
    on_case: Callable[[int], None] = lambda done: None,
) -> CurvePoint:
    """Score a network on prepared cases, on the prepared grid.

    `classes` are the foreground values and names; the network sees the index of a value among all sorted values.
    """
    point = CurvePoint(classes)
    evaluator = _evaluator(network, cases, plan, precision, device)

    @evaluator.on(Events.ITERATION_COMPLETED)
    def _score(engine: Engine) -> None:
        state: Any = engine.state
        logits = state.output[CommonKeys.PRED][0]
        point.scores.extend(_score_on_prepared_grid(state.batch["case"], logits, plan, classes, metrics))
        on_case(engine.state.iteration)

    evaluator.run()
    return point


def _score_on_prepared_grid(
    case: PreparedCase, logits: torch.Tensor, plan: Plan, classes: Mapping[int, str], metrics: Sequence[str]
) -> list[Score]:
    indices = {index: name for index, name in enumerate(classes.values(), start=1)}
    prediction = predicted_classes(logits).cpu().numpy()
    return evaluate_case(
        case.id, np.asarray(case.label()), prediction, plan.spacing_mm, PanelSettings(indices, metrics=metrics)
    )


@dataclass(frozen=True, slots=True)
class RankScore:
    """How well a network ranks the voxels of some cases; means over classes of the means over cases that show one."""

    average_precision: float
    prevalence: float

    @property
    def chance(self) -> float:
        """The score of a network that adds nothing to this one, and at least that of a constant output."""
        return max(self.average_precision, self.prevalence)


def rank_score(
    network: nn.Module, cases: Sequence[PreparedCase], plan: Plan, precision: Precision, device: torch.device
) -> RankScore | None:
    """Score the probabilities of a network on prepared cases without a threshold; None where no case shows a class.

    Raises
    ------
    FloatingPointError
        Where an output is not finite.
    """
    found: dict[int, list[tuple[float, float]]] = {}
    evaluator = _evaluator(network, cases, plan, precision, device)

    @evaluator.on(Events.ITERATION_COMPLETED)
    def _score(engine: Engine) -> None:
        state: Any = engine.state
        logits = state.output[CommonKeys.PRED][0]
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("the network's output is not finite")
        probabilities = logits.softmax(0).cpu().numpy()
        label = np.asarray(state.batch["case"].label())
        for index in range(1, len(probabilities)):
            positive = label == index
            precision_of_class = average_precision(probabilities[index], positive)
            if precision_of_class is not None:
                found.setdefault(index, []).append((precision_of_class, float(positive.mean())))

    evaluator.run()
    if not found:
        return None
    score, prevalence = np.mean([np.mean(values, axis=0) for values in found.values()], axis=0)
    return RankScore(float(score), float(prevalence))


@dataclass(frozen=True, slots=True)
class ThresholdScore:
    """Dice of one class against the rest where its probability reaches `threshold`; None for a correct absence."""

    case: str
    class_name: str
    threshold: float
    dice: float | None


@dataclass
class OutOfFold:
    """Scores of the held-out cases on their original grids, and those of the first ones as the curves' last point."""

    curve: CurvePoint
    scores: list[Score] = field(default_factory=list)
    at_thresholds: list[ThresholdScore] = field(default_factory=list)


def predict_out_of_fold(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    originals: Mapping[str, Case],
    plan: Plan,
    classes: Mapping[int, str],
    precision: Precision,
    device: torch.device,
    predictions: Path | None,
    curve_cases: int,
    on_case: Callable[[int], None] = lambda done: None,
) -> OutOfFold:
    """Return the whole panel and the Dice at every threshold for each case on its original grid.

    They are predicted with test-time augmentation where the plan says so. The masks are written where a folder is
    given. `curve_cases` is how many of the first cases are in the curves.
    """
    if plan.tta:
        network = RotationEnsemble(network, plan.spacing_mm)
    found = OutOfFold(CurvePoint(classes))
    values = np.asarray([0, *classes])
    evaluator = _evaluator(network, cases, plan, precision, device)

    @evaluator.on(Events.ITERATION_COMPLETED)
    def _score(engine: Engine) -> None:
        state: Any = engine.state
        case: PreparedCase = state.batch["case"]
        logits = state.output[CommonKeys.PRED][0]
        if engine.state.iteration <= curve_cases:
            found.curve.scores.extend(_score_on_prepared_grid(case, logits, plan, classes, CURVE_METRICS))
        label_image: Any = nib.load(str(originals[case.id].label))
        reference = np.rint(np.asanyarray(label_image.dataobj)).astype(np.int16)
        reference = reference.reshape(reference.shape[:3])
        probabilities = to_original_grid(
            logits.softmax(0), np.asarray(case.affine), reference.shape, label_image.affine
        )
        mask = values[predicted_classes(torch.from_numpy(probabilities)).numpy()].astype(np.int16)
        spacing = tuple(float(edge) for edge in label_image.header.get_zooms()[:3])
        found.scores.extend(
            evaluate_case(
                case.id,
                reference,
                mask,
                spacing,
                PanelSettings(classes, plan.tolerance, plan.metrics),
                probabilities,
            )
        )
        for index, (value, name) in enumerate(classes.items(), start=1):
            pairs = zip(THRESHOLDS, dice_at_thresholds(reference == value, probabilities[index]), strict=True)
            found.at_thresholds.extend(ThresholdScore(case.id, name, threshold, dice) for threshold, dice in pairs)
        if predictions is not None:
            write_mask(predictions / f"{case.id}.nii.gz", mask, label_image.affine)
        on_case(engine.state.iteration)

    evaluator.run()
    return found
