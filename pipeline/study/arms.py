"""The arms of a study: the requested losses, and controls that repeat some of them."""

from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, parse_losses
from pipeline.losses.catalogue import formula_of
from pipeline.records.study import ArmRecord
from pipeline.study.request import StudyRequest


def arms_of(request: StudyRequest) -> tuple[LossSpec, ...]:
    """Return the requested losses, followed by the control arms.

    Raises
    ------
    ConfigError
        If a loss is unknown or malformed, or a control repeats a loss that is not in the study.
    """
    losses = parse_losses(request.losses)
    by_label = {spec.label: spec for spec in losses}
    controls = [label.strip() for label in request.controls.split(",") if label.strip()]
    for label in controls:
        if label not in by_label:
            raise ConfigError(
                f"--control {label}", "must be one of the losses of this study", f"choose from {', '.join(by_label)}"
            )
    return (*losses, *(by_label[label].as_control() for label in dict.fromkeys(controls)))


def arm_records(arms: Sequence[LossSpec]) -> tuple[ArmRecord, ...]:
    """Return the arms as the record of a study describes them."""
    return tuple(
        ArmRecord(
            name=spec.name,
            label=spec.label,
            spec=spec.text,
            formula=formula_of(spec.name),
            control=spec.control,
        )
        for spec in arms
    )


def study_name(dataset: str, arms: Sequence[LossSpec]) -> str:
    """Return the display name of a study.

    Examples
    --------
    >>> study_name("hippocampus", parse_losses("dice,ce"))
    'hippocampus: dice vs ce'
    """
    return f"{dataset}: {' vs '.join(spec.label for spec in arms)}"
