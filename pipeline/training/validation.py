"""Validation and out-of-fold prediction: MONAI's `SupervisedEvaluator` with the metrics panel for each case."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

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
from pipeline.records.table import Score, mean_dice
from pipeline.training.average_precision import average_precision
from pipeline.training.preparation import PreparedCase

CURVE_METRICS = ("dice", "hausdorff_mm", "hausdorff95_mm")
"""Metrics of the validation curves."""

OnCase = Callable[[int], None]
"""Called after each case with the number of cases so far."""


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """The conditions under which a network is evaluated.

    Attributes
    ----------
    plan
        Windows, spacing, metrics and tolerance.
    classes
        Foreground label values and names, in ascending order of value. The network predicts the index of a value among
        all sorted values.
    precision
        Number format of the network.
    device
        Device of the network.
    """

    plan: Plan
    classes: Mapping[int, str]
    precision: Precision
    device: torch.device


class _CaseBatch(TypedDict):
    """One case as a batch: image (1, C, X, Y, Z) float32."""

    image: torch.Tensor
    case: PreparedCase


@dataclass(frozen=True, slots=True)
class _CaseLoader:
    """Load prepared cases one by one, as batches of one; iterable more than once, as Ignite requires."""

    cases: Sequence[PreparedCase]

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[_CaseBatch]:
        for case in self.cases:
            yield {"image": torch.from_numpy(np.array(case.image()))[None], "case": case}


def _predict_cases(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    settings: EvaluationSettings,
    on_logits: Callable[[int, PreparedCase, torch.Tensor], None],
) -> None:
    """Call `on_logits` with the number from 1, the case and its logits (K, X, Y, Z) float32, case by case."""

    def prepare_batch(
        batch: _CaseBatch, device: torch.device, non_blocking: bool, **_: object
    ) -> tuple[torch.Tensor, None]:
        return batch["image"].to(device, non_blocking=non_blocking), None

    evaluator = SupervisedEvaluator(
        device=settings.device,
        val_data_loader=_CaseLoader(cases),
        epoch_length=len(cases),
        network=network,
        inferer=sliding_inferer(settings.plan, settings.precision, settings.device),
        prepare_batch=prepare_batch,
        decollate=False,
    )

    @evaluator.on(Events.ITERATION_COMPLETED)
    def _pass_on(engine: Engine) -> None:
        state: Any = engine.state
        on_logits(state.iteration, state.batch["case"], state.output[CommonKeys.PRED][0])

    evaluator.run()


@dataclass
class CurvePoint:
    """Scores of the validation cases on the prepared grid, for one point of the curves over steps."""

    classes: Mapping[int, str]
    scores: list[Score] = field(default_factory=list)

    def event(self, step: int, seconds: float) -> ValidationEvent:
        """Return means per class and metric with the counts of states, as the event of a validation.

        Parameters
        ----------
        step
            Completed steps of the training.
        seconds
            Seconds of the training so far.
        """
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
        values = [s.value for s in self.scores if s.metric == metric and s.class_name == name and s.value is not None]
        return float(np.mean(values)) if values else None


def validate(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    settings: EvaluationSettings,
    metrics: Sequence[str] = CURVE_METRICS,
    on_case: OnCase = lambda done: None,
) -> CurvePoint:
    """Score a network on prepared cases, on the prepared grid.

    Parameters
    ----------
    network
        From images (B, C, *S) to logits (B, K, *S).
    cases
        Prepared cases with labels.
    settings
        Conditions of the evaluation.
    metrics
        Metrics to compute.
    on_case
        Called after each case.

    Raises
    ------
    FloatingPointError
        If an output of the network is not finite.
    """
    point = CurvePoint(settings.classes)

    def score(number: int, case: PreparedCase, logits: torch.Tensor) -> None:
        point.scores.extend(_scores_on_prepared_grid(case, logits, settings, metrics))
        on_case(number)

    _predict_cases(network, cases, settings, score)
    return point


def _scores_on_prepared_grid(
    case: PreparedCase, logits: torch.Tensor, settings: EvaluationSettings, metrics: Sequence[str]
) -> list[Score]:
    """Return the scores of logits (K, X, Y, Z) against the prepared label, which holds class indices."""
    indices = {index: name for index, name in enumerate(settings.classes.values(), start=1)}
    prediction = predicted_classes(logits).cpu().numpy()
    panel = PanelSettings(indices, metrics=metrics)
    label = np.asarray(case.label())
    return evaluate_case(case.id, label, prediction, settings.plan.spacing_mm, panel, annotation=case.annotation)


@dataclass(frozen=True, slots=True)
class RankingScore:
    """Quality of a network's ranking of the voxels of some cases.

    Attributes
    ----------
    average_precision
        Mean over classes of the mean over the cases that show the class, 0 to 1.
    prevalence
        Share of the voxels of a class, averaged in the same way: the score of a constant output.
    """

    average_precision: float
    prevalence: float

    @property
    def chance(self) -> float:
        """The score without any learning, if this is the score of the untrained network."""
        return max(self.average_precision, self.prevalence)


def ranking_score(
    network: nn.Module, cases: Sequence[PreparedCase], settings: EvaluationSettings
) -> RankingScore | None:
    """Score the probabilities of a network on prepared cases without a threshold.

    Returns
    -------
    RankingScore or None
        None if no case shows any class.

    Raises
    ------
    FloatingPointError
        If an output of the network is not finite.
    """
    by_class: dict[int, list[tuple[float, float]]] = {}

    def score(number: int, case: PreparedCase, logits: torch.Tensor) -> None:
        if not bool(torch.isfinite(logits).all()):
            raise FloatingPointError("the network's output is not finite")
        probabilities = logits.softmax(0).cpu().numpy()
        label = np.asarray(case.label())
        ignored = case.annotation.ignored_voxels(label)
        if ignored is not None:
            label, probabilities = label[~ignored], probabilities[:, ~ignored]
        for index in filter(case.annotation.includes, range(1, len(probabilities))):
            positive = label == index
            precision_of_class = average_precision(probabilities[index], positive)
            if precision_of_class is not None:
                by_class.setdefault(index, []).append((precision_of_class, float(positive.mean())))

    _predict_cases(network, cases, settings, score)
    if not by_class:
        return None
    mean, prevalence = np.mean([np.mean(values, axis=0) for values in by_class.values()], axis=0)
    return RankingScore(float(mean), float(prevalence))


@dataclass(frozen=True, slots=True)
class ThresholdScore:
    """Dice of one class against all others if voxels belong to it from the probability `threshold` on.

    It is None for a correct absence.
    """

    case: str
    class_name: str
    threshold: float
    dice: float | None


@dataclass
class OutOfFoldScores:
    """Scores of the held-out cases of a fold.

    Attributes
    ----------
    curve
        Scores of the first cases on the prepared grid, the last point of the validation curves.
    scores
        The whole panel of all cases on their original grids.
    at_thresholds
        Dice of all cases and classes at every threshold.
    """

    curve: CurvePoint
    scores: list[Score] = field(default_factory=list)
    at_thresholds: list[ThresholdScore] = field(default_factory=list)


def predict_out_of_fold(
    network: nn.Module,
    cases: Sequence[PreparedCase],
    originals: Mapping[str, Case],
    settings: EvaluationSettings,
    predictions: Path | None = None,
    curve_cases: int = 0,
    on_case: OnCase = lambda done: None,
) -> OutOfFoldScores:
    """Return the whole panel and the Dice at every threshold for each held-out case on its original grid.

    Parameters
    ----------
    network
        From images (B, C, *S) to logits (B, K, *S). Test-time augmentation is added if the plan says so.
    cases
        Prepared held-out cases.
    originals
        The same cases with their original files, by name.
    settings
        Conditions of the evaluation.
    predictions
        Folder in which the masks are written, if any.
    curve_cases
        How many of the first cases are scored on the prepared grid too, for the curves.
    on_case
        Called after each case.

    Raises
    ------
    FloatingPointError
        If an output of the network is not finite.
    OSError
        If a file cannot be read or written.
    """
    plan, classes = settings.plan, settings.classes
    if plan.tta:
        network = RotationEnsemble(network, plan.spacing_mm)
    result = OutOfFoldScores(CurvePoint(classes))
    panel = PanelSettings(classes, plan.tolerance, plan.metrics)
    label_values = np.asarray([0, *classes])

    def score(number: int, case: PreparedCase, logits: torch.Tensor) -> None:
        if number <= curve_cases:
            result.curve.scores.extend(_scores_on_prepared_grid(case, logits, settings, CURVE_METRICS))
        label: Any = nib.load(str(originals[case.id].label))
        reference = np.rint(np.asanyarray(label.dataobj)).astype(np.int16)
        reference = reference.reshape(reference.shape[:3])  # some tools store a fourth axis of one volume
        probabilities = to_original_grid(logits.softmax(0), np.asarray(case.affine), reference.shape, label.affine)
        mask = label_values[predicted_classes(torch.from_numpy(probabilities)).numpy()].astype(np.int16)
        spacing = tuple(float(edge) for edge in label.header.get_zooms()[:3])
        annotation = originals[case.id].annotation
        result.scores.extend(evaluate_case(case.id, reference, mask, spacing, panel, probabilities, annotation))
        ignored = annotation.ignored_voxels(reference)
        known = ... if ignored is None else ~ignored
        for index, (value, name) in enumerate(classes.items(), start=1):
            if not annotation.includes(value):
                continue
            dice = dice_at_thresholds((reference == value)[known], probabilities[index][known])
            pairs = zip(THRESHOLDS, dice, strict=True)
            result.at_thresholds.extend(ThresholdScore(case.id, name, threshold, dice) for threshold, dice in pairs)
        if predictions is not None:
            write_mask(predictions / f"{case.id}.nii.gz", mask, label.affine)
        on_case(number)

    _predict_cases(network, cases, settings, score)
    return result
