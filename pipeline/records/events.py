"""Append-only events of a run, durable line by line.

Every event has a `kind`. An event of a kind that this version does not know is read as a plain `Event`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.records.model import RecordModel, SparseRecord
from pipeline.system.files import write_text
from pipeline.system.json_lines import append_json_line, read_json_lines

ByClass = dict[str, float | None]
"""A value for each class, by name; None where it is undefined."""


class Event(SparseRecord):
    """One line of ``events.jsonl``; `step` is the optimizer step after which it was written."""

    kind: str
    step: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values of the fields that are set, the kind first."""
        return {"kind": self.kind} | super().to_json()


class TrainEvent(Event):
    """Means since the event before.

    Attributes
    ----------
    loss
        Training loss.
    gradient_norm, gradient_norm_max
        Norm of the gradient over all weights, before clipping: mean and largest.
    gradient_agreement
        Cosine between gradients of successive batches.
    logit_gradient_norm, logit_gradient_foreground
        Norm of the gradient with respect to the logits, and the share of it on voxels of the foreground.
    seconds
        Time of the training so far.
    """

    kind: Literal["train"] = "train"
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    gradient_norm_max: float | None = None
    gradient_agreement: float | None = None
    logit_gradient_norm: float | None = None
    logit_gradient_foreground: float | None = None
    seconds: float | None = None


class StateCounts(RecordModel):
    """Number of classes of cases in each state."""

    ok: int = 0
    missed: int = 0
    false_positive: int = 0
    correct_absence: int = 0


class ValidationEvent(Event):
    """A point of the validation curves: means over cases, by class.

    Attributes
    ----------
    dice, hausdorff_mm, hausdorff95_mm
        Means of each class.
    mean_dice
        Mean over classes.
    counts
        States of all classes of all cases.
    seconds
        Time of the training so far.
    """

    kind: Literal["validation"] = "validation"
    seconds: float | None = None
    dice: ByClass = Field(default_factory=dict)
    hausdorff_mm: ByClass = Field(default_factory=dict)
    hausdorff95_mm: ByClass = Field(default_factory=dict)
    mean_dice: float | None = None
    counts: StateCounts = StateCounts()

    def by_class(self, metric: str) -> ByClass:
        """Return the means of a metric by class; empty if it was not validated."""
        values = getattr(self, metric, None)
        return values if isinstance(values, dict) else {}


class RestartEvent(Event):
    """The training begins anew in float32, for the reason `why`."""

    kind: Literal["restart"] = "restart"
    why: str = ""


class StateEvent(Event):
    """The end of a run that collapsed."""

    kind: Literal["state"] = "state"
    state: str = ""
    why: str | None = None


class SystemEvent(Event):
    """Use of the machine by the process: percent of one core, and resident memory in MiB."""

    kind: Literal["system"] = "system"
    cpu_percent: float | None = None
    memory_mb: float | None = None


class RateSearchEvent(Event):
    """The search over learning rates, as `pipeline.records.rate_search.RateSearch.to_json` writes it."""

    kind: Literal["learning_rate_search"] = "learning_rate_search"
    chosen: float | None = None
    rule: str | None = None
    chance: float | None = None
    candidates: tuple[dict[str, Any], ...] = ()


KINDS: dict[str, type[Event]] = {
    "train": TrainEvent,
    "validation": ValidationEvent,
    "restart": RestartEvent,
    "state": StateEvent,
    "system": SystemEvent,
    "learning_rate_search": RateSearchEvent,
}


def append_event(path: Path, event: Event) -> None:
    """Append one event as a JSON line; non-finite numbers become null, so that every line is standard JSON."""
    append_json_line(path, event.to_json())


def write_events(path: Path, events: Sequence[Event]) -> None:
    """Replace all events, whole or not at all."""
    lines = (json.dumps(event.to_json(), allow_nan=False, ensure_ascii=False) for event in events)
    write_text(path, "".join(f"{line}\n" for line in lines))


def read_events(path: Path) -> list[Event]:
    """Return all whole events; a last line cut short by a kill is left out, and a missing file has none."""
    return [KINDS.get(content["kind"], Event).model_validate(content) for content in read_json_lines(path)]
