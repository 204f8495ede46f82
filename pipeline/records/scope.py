"""The conditions under which the trainings of a study ran: a verdict holds for these, and is unknown for others."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, computed_field, model_serializer

from pipeline.records.events import Event, RestartEvent, ValidationEvent
from pipeline.records.metrics import metric_of
from pipeline.records.model import RecordModel
from pipeline.records.run import RunRecord, RunTrace
from pipeline.records.study import StudyRecord

LAST = 0.25
"""Share of a training at its end over which the slope of its validation curve is measured."""

MOST_NAMED = 4
"""Losses that one clause of a sentence names."""


class Slope(RecordModel):
    """Change of the validation curve of a loss over the last quarter of training.

    Attributes
    ----------
    loss
        Its name.
    metric
        Metric of the curve.
    change
        Mean over runs of the last value minus the value a quarter of the training earlier, in the metric's unit. The
        earlier value is interpolated between validations.
    runs
        Runs behind the mean. Collapsed runs have no slope.
    """

    loss: str
    metric: str
    change: float
    runs: int


class Scope(RecordModel):
    """Conditions of the trainings of a study; None where the records do not tell.

    Attributes
    ----------
    steps
        Optimizer steps of each training.
    epochs
        Patches drawn per training case.
    budget
        Budget as requested, for example ``300s``.
    optimizer, schedule, trainer
        Names.
    network
        Class and arguments of a network other than the U-Net of the plan.
    channels
        Features of each level of that U-Net.
    patch
        Shape of a training patch in voxels.
    learning_rates
        Learning rates that the runs of each loss used, in ascending order.
    slopes
        Of the validation curve of the deciding metric, for each loss.
    """

    model_config = ConfigDict(extra="ignore")  # the sentences are written, and made again when it is read

    steps: int | None = None
    epochs: float | None = None
    budget: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    trainer: str | None = None
    network: str | None = None
    channels: tuple[int, ...] | None = None
    patch: tuple[int, ...] | None = None
    learning_rates: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    slopes: tuple[Slope, ...] = ()

    @model_serializer(mode="wrap")
    def _without_default_network(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a missing network, so that the files of other studies stay as they were."""
        values: dict[str, Any] = serialize(self)
        return {name: value for name, value in values.items() if name != "network" or value is not None}

    @computed_field  # type: ignore[prop-decorator]
    @property
    def words(self) -> tuple[str, ...]:
        """The scope in sentences; what is not known is left out."""
        return tuple(sentence for sentence in (self.conditions, self._end_of_curves()) if sentence)

    @property
    def conditions(self) -> str:
        """The sentence on steps, optimizer, network and rates; empty if none is known."""
        known = [
            self._length(),
            self.optimizer and f"optimizer {self.optimizer}",
            self.schedule and f"schedule {self.schedule}",
            self._network(),
            self.patch and f"patches of {' × '.join(map(str, self.patch))} voxels",
            self._rates(),
            self.trainer and f"trainer {self.trainer}",
        ]
        said = ", ".join(part for part in known if part)
        return f"This holds for trainings like these: {said}." if said else ""

    def _length(self) -> str:
        if self.steps is None:
            return f"a budget of {self.budget}" if self.budget else ""
        about = [] if self.epochs is None else [f"about {_rounded(self.epochs)} epochs"]
        about += [f"budget {self.budget}"] if self.budget and self.budget != f"{self.steps}steps" else []
        return f"{self.steps:,} steps" + (f" ({', '.join(about)})" if about else "")

    def _network(self) -> str:
        if self.network:
            return f"network {self.network}"
        if not self.channels:
            return ""
        return f"a U-Net of {len(self.channels)} levels ({', '.join(map(str, self.channels))} features)"

    def _rates(self) -> str:
        rates = sorted({rate for values in self.learning_rates.values() for rate in values})
        if not rates:
            return ""
        return f"learning rate {rates[0]:g}" if len(rates) == 1 else f"learning rates {rates[0]:g} to {rates[-1]:g}"

    def _end_of_curves(self) -> str:
        if not self.slopes:
            return ""
        metric = metric_of(self.slopes[0].metric)
        digits = 2 if metric.is_distance else 1
        verbs: dict[str, list[tuple[float, str]]] = {}
        for slope in self.slopes:
            size = round(metric.factor * slope.change, digits)
            improves = (size > 0) == metric.higher_is_better
            verb = ("rises" if size > 0 else "falls") if size else "no longer changes"
            verb = f"still {verb}" if size and improves else verb
            shown = f"{abs(size):.{digits}f} {metric.displayed_unit}".rstrip()
            verbs.setdefault(verb, []).append((abs(size), f"{slope.loss} ({shown})" if size else slope.loss))
        clauses = [f"{verb} with {_named(found)}" for verb, found in verbs.items()]
        return f"In the last quarter of training, {metric.phrase} {_joined(clauses)}."


def scope_of(settings: StudyRecord, runs: Iterable[RunTrace] = (), metric: str = "dice") -> Scope:
    """Return the scope of a study.

    Parameters
    ----------
    settings
        Of the study, as in ``study.json``; what an old study did not record is None.
    runs
        Of the study, finished or not.
    metric
        The metric that decides. Where trainings were not validated by it, the slopes are those of Dice.
    """
    runs = list(runs)
    budget, plan = settings.budget, settings.plan
    records = [run.record for run in runs if run.record is not None]
    steps = budget.steps or next((record.steps for record in records if record.steps), None)
    rates: dict[str, set[float]] = {}
    for run in runs:
        rate = run.record.learning_rate if run.record is not None else None
        if rate is not None:
            rates.setdefault(run.key.loss, set()).add(rate)
    version, recipe = settings.segloss, settings.recipe
    network = None if recipe is None else recipe.network_and_weights
    return Scope(
        steps=steps,
        # Other trainers have epochs of their own, of a fixed number of steps.
        epochs=None if settings.trainer else _epochs(steps, plan.batch, _training_cases(settings, records)),
        budget=budget.asked,
        optimizer=settings.optimizer,
        schedule=settings.schedule,
        trainer=settings.trainer or (f"segloss {version}" if version else None),
        network=network,
        channels=None if network else plan.channels or None,
        patch=plan.patch or None,
        learning_rates={loss: tuple(sorted(values)) for loss, values in rates.items()},
        slopes=tuple(_slopes(runs, steps, metric) or _slopes(runs, steps, "dice")),
    )


def _training_cases(settings: StudyRecord, records: Sequence[RunRecord]) -> float | None:
    """Return the number of cases that a run is trained with, averaged over runs."""
    cases, folds = settings.dataset.cases, settings.folds
    if not cases:
        return None
    held_out = [len(record.cases) for record in records if record.cases]
    if held_out:
        return float(cases) - float(np.mean(held_out))
    return float(cases) * (1 - 1 / folds) if folds > 1 else float(cases)


def _epochs(steps: int | None, batch: int | None, cases: float | None) -> float | None:
    return steps * batch / cases if steps and batch and cases else None


def _slopes(runs: Sequence[RunTrace], steps: int | None, metric: str) -> list[Slope]:
    """Return the slopes of a metric, for each loss that has a run validated before and after the last quarter."""
    found: dict[str, list[float]] = {}
    for run in runs:
        if run.record is not None and run.record.state != "collapsed":
            change = _change(_curve(run.events, metric), steps)
            if change is not None:
                found.setdefault(run.key.loss, []).append(change)
    return [
        Slope(loss=loss, metric=metric, change=float(np.mean(changes)), runs=len(changes))
        for loss, changes in found.items()
    ]


def _curve(events: Sequence[Event], metric: str) -> list[tuple[float, float]]:
    """Return steps and values of the validations of a run, in order; values are means over classes."""
    points: dict[float, float] = {}
    for event in events:
        if isinstance(event, RestartEvent):
            points.clear()
        if not isinstance(event, ValidationEvent):
            continue
        values = [value for value in event.by_class(metric).values() if value is not None]
        mean = event.mean_dice if metric == "dice" else None
        if mean is None and values:
            mean = float(np.mean(values))
        if mean is not None:
            points[float(event.step)] = float(mean)
    return sorted(points.items())


def _change(curve: Sequence[tuple[float, float]], steps: int | None) -> float | None:
    """Return the change over the last quarter; None for a curve that does not cover it."""
    if len(curve) < 2:
        return None
    at, values = zip(*curve, strict=True)
    begin = (1 - LAST) * at[-1]
    if at[0] > begin or (steps is not None and at[-1] < steps):
        return None
    return float(values[-1] - np.interp(begin, at, values))


def _named(found: Sequence[tuple[float, str]]) -> str:
    """Return losses as one writes them; of many the number, and the one that changes most."""
    if len(found) > MOST_NAMED:
        size, name = max(found)
        return f"{len(found)} losses" + (f", most with {name}" if size else "")
    return _joined([name for _, name in found])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _rounded(epochs: float) -> str:
    return f"{epochs:,.0f}" if epochs >= 10 else f"{epochs:.2g}"
