"""Collapsed trainings: when a training counts as one, and the scores that it receives.

A collapsed training gave no usable network. It is recorded as a failure in every case, not as a gap in the table.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pipeline.data.dataset import Case
from pipeline.data.nifti import read_header
from pipeline.metrics.empty_masks import diagonal_mm
from pipeline.records.events import Event, ValidationEvent
from pipeline.records.metrics import metric_of
from pipeline.records.table import Score

LATE = 0.75
"""Share of a training after which a network that predicts nothing is given up."""


class CollapsedTraining(Exception):
    """A training that predicts no structure in any case, late in its schedule."""


def check_not_collapsed(events: Sequence[Event], step: int, steps: int) -> None:
    """Stop a training whose last two validations predicted nothing, since its other steps would be wasted.

    Parameters
    ----------
    events
        Events of the training, without those of a training before a restart.
    step, steps
        Completed steps, and steps of the whole training.

    Raises
    ------
    CollapsedTraining
        If the training is past `LATE` of its steps, has not ended, and no validation case shows a prediction.

    Examples
    --------
    >>> from pipeline.records.events import StateCounts, ValidationEvent
    >>> from pipeline.training.collapse import check_not_collapsed
    >>> events = [ValidationEvent(step=step, counts=StateCounts(missed=8)) for step in (60, 80)]
    >>> check_not_collapsed(events, step=60, steps=100)
    >>> check_not_collapsed(events, step=80, steps=100)
    Traceback (most recent call last):
    pipeline.training.collapse.CollapsedTraining: finds nothing in any case after 60 and 80 of 100 steps; stopped
    """
    validations = [event for event in events if isinstance(event, ValidationEvent)]
    late = LATE * steps <= step < steps
    if late and len(validations) > 1 and not any(_predicts_something(event) for event in validations[-2:]):
        earlier = validations[-2].step
        raise CollapsedTraining(f"finds nothing in any case after {earlier} and {step} of {steps} steps; stopped")


def _predicts_something(validation: ValidationEvent) -> bool:
    counts = validation.counts
    return counts.ok + counts.false_positive > 0 or counts.missed == 0


def never_predicted_classes(scores: Sequence[Score]) -> list[str]:
    """Return the classes, sorted, that some reference shows and no prediction ever contains.

    Examples
    --------
    >>> from pipeline.records.table import Score
    >>> from pipeline.training.collapse import never_predicted_classes
    >>> scores = [Score("a", "liver", "dice", 0.9, "ok"), Score("a", "tumor", "dice", 0.0, "missed")]
    >>> never_predicted_classes(scores)
    ['tumor']
    """
    states: dict[str, set[str]] = {}
    for score in scores:
        if score.metric == "dice":
            states.setdefault(score.class_name, set()).add(score.state)
    return sorted(name for name, own in states.items() if "missed" in own and not own & {"ok", "false_positive"})


def with_collapsed_classes(scores: Sequence[Score], lost: Collection[str]) -> list[Score]:
    """Return the scores in which those of the `never_predicted_classes` have the state ``collapsed``."""
    return [
        replace(score, state="collapsed") if score.class_name in lost and score.state != "not_annotated" else score
        for score in scores
    ]


def failed_scores(originals: Mapping[str, Case], classes: Mapping[int, str], metrics: Sequence[str]) -> list[Score]:
    """Return the scores of a miss of every class in every case, in the state ``collapsed``.

    Parameters
    ----------
    originals
        Held-out cases with their files on disk; the labels give the size of the images.
    classes
        Foreground label values and names.
    metrics
        Names of the metrics.

    Returns
    -------
    list of Score
        Overlap is 0, a distance is the diagonal of the image in mm, and an error is the largest possible error. Metrics
        without such a value, such as a volume in mL, are None. So are classes that were not annotated in a case.

    Raises
    ------
    DatasetError
        If the header of a label cannot be read.
    """
    scores = []
    for case_id, case in originals.items():
        header = read_header(case.label or case.images[0])
        diagonal = diagonal_mm(header.grid, header.spacing_mm)
        for value, name in classes.items():
            if case.annotation.includes(value):
                scores += [Score(case_id, name, metric, _worst(metric, diagonal), "collapsed") for metric in metrics]
            else:
                scores += [Score(case_id, name, metric, None, "not_annotated") for metric in metrics]
    return scores


def _worst(metric: str, diagonal: float) -> float | None:
    """Return the worst value of a metric; a diagonal is in mm."""
    info = metric_of(metric)
    return diagonal if info.is_distance else info.worst
