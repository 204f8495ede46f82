"""Numbers that describe the learning curves of one loss."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import stats

from pipeline.records.events import TrainEvent, ValidationEvent
from pipeline.records.run import RunTrace
from pipeline.report.curves import last_training

FEWEST_LOSSES = 8
"""Fewest recorded training losses from which a roughness is computed."""

FEWEST_VALIDATIONS = 4
"""Fewest validations from which a correlation is computed."""


@dataclass(frozen=True, slots=True)
class CurveNumbers:
    """Numbers of the curves of one run, or their medians over runs; None where they were not recorded.

    Attributes
    ----------
    gradient_norm, spike
        Median norm of the gradient over all weights, and its largest value over the median.
    foreground_share
        Share (0 to 1) of the gradient with respect to the logits that lies on foreground.
    agreement
        Cosine between the gradients of two successive batches.
    roughness
        Mean change of the recorded training loss from one record to the next, in the second half of the training, in
        percent of the fall of the loss over the whole training.
    correlation
        Spearman's correlation of training loss and validation Dice over the validations. Near -1 the training loss
        predicts the quality of the network.
    """

    gradient_norm: float | None = None
    spike: float | None = None
    foreground_share: float | None = None
    agreement: float | None = None
    roughness: float | None = None
    correlation: float | None = None


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Medians over the runs of one loss, and the learning rates of its runs, the most frequent first."""

    learning_rates: tuple[float, ...]
    medians: CurveNumbers


def diagnose(runs: Sequence[RunTrace]) -> Diagnostics:
    """Return the diagnostics of the runs of one loss."""
    each = [curve_numbers(run) for run in runs]
    values = {field.name: _defined(getattr(one, field.name) for one in each) for field in fields(CurveNumbers)}
    medians = {name: float(np.median(defined)) for name, defined in values.items() if defined}
    rates = _defined(run.record.learning_rate for run in runs if run.record is not None)
    by_frequency = sorted(set(rates), key=lambda rate: (-rates.count(rate), rate))
    return Diagnostics(tuple(by_frequency), CurveNumbers(**medians))


def curve_numbers(run: RunTrace) -> CurveNumbers:
    """Return the numbers of one run, of its last training if it was restarted."""
    events = last_training(run.events)
    train = [event for event in events if isinstance(event, TrainEvent)]
    norms = _defined(event.gradient_norm for event in train)
    largest = _defined(event.gradient_norm_max for event in train) or norms
    norm = _median(norms)
    return CurveNumbers(
        gradient_norm=norm or None,
        spike=max(largest) / norm if norm else None,
        foreground_share=_median(_defined(event.logit_gradient_foreground for event in train)),
        agreement=_median(_defined(event.gradient_agreement for event in train)),
        roughness=_roughness(_defined(event.loss for event in train)),
        correlation=_correlation(train, [event for event in events if isinstance(event, ValidationEvent)]),
    )


def _roughness(losses: Sequence[float]) -> float | None:
    """Return the roughness of a training loss in percent; None for a short curve or one that does not fall."""
    if len(losses) < FEWEST_LOSSES or losses[0] <= losses[-1]:
        return None
    steps = np.diff(losses[len(losses) // 2 :])
    return 100 * float(np.abs(steps).mean()) / (losses[0] - losses[-1])


def _correlation(train: Sequence[TrainEvent], validations: Sequence[ValidationEvent]) -> float | None:
    """Return the correlation of each validation's Dice with the mean training loss since the validation before it."""
    pairs, before = [], 0
    for validation in validations:
        losses = _defined(event.loss for event in train if before < event.step <= validation.step)
        if losses and validation.mean_dice is not None:
            pairs.append((float(np.mean(losses)), validation.mean_dice))
        before = validation.step
    if len(pairs) < FEWEST_VALIDATIONS or len({x for x, _ in pairs}) < 2 or len({y for _, y in pairs}) < 2:
        return None
    return float(stats.spearmanr(*np.array(pairs).T).statistic)


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _defined(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
