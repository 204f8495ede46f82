"""The tables about runs: diagnostics of their curves, proof of fair pairing, states, and what was spent."""

from collections.abc import Sequence

import numpy as np

from pipeline.comparison.evidence import Evidence
from pipeline.records.run import RunRecord
from pipeline.report.diagnostics import diagnose
from pipeline.report.formatting import duration, signed
from pipeline.report.tables import Cell, Table, loss_cell, value_cell


def diagnostics_table(evidence: Evidence) -> Table:
    """Return what the learning curves of each loss say in numbers."""
    columns = (
        "loss",
        "runs",
        "learning rates chosen",
        "gradient norm",
        "largest spike",
        "gradient on foreground",
        "agreement of batches",
        "roughness of training loss",
        "training loss ~ validation Dice",
    )
    table = Table("Medians over the runs of a loss.", columns)
    for loss in evidence.losses:
        own = [run for run in evidence.runs if run.key.loss == loss and run.events]
        found = diagnose(own)
        rates = ", ".join(f"{rate:g}" for rate in found.learning_rates) or "–"
        table.rows.append(
            [
                loss_cell(loss),
                value_cell(len(own), str(len(own))),
                Cell(rates, rates),
                value_cell(found.medians.gradient_norm),
                value_cell(
                    found.medians.spike, "–" if found.medians.spike is None else f"{found.medians.spike:.1f} × median"
                ),
                value_cell(found.medians.foreground_share, _percent(found.medians.foreground_share, 0)),
                value_cell(found.medians.agreement, signed(found.medians.agreement)),
                value_cell(
                    found.medians.roughness,
                    "–" if found.medians.roughness is None else f"{found.medians.roughness:.1f} % of its fall",
                ),
                value_cell(found.medians.correlation, signed(found.medians.correlation)),
            ]
        )
    return table


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def fairness_table(evidence: Evidence) -> tuple[Table, bool | None]:
    """Return for each fold and seed whether all losses began with the same weights and were fed the same patches.

    The second value is whether this holds everywhere, None where no fold and seed has two runs to compare.
    """
    table = Table("", ("fold", "seed", "losses", "initial weights", "feed", "same for all losses"))
    groups: dict[tuple[int, int], list[RunRecord]] = {}
    for run in evidence.runs:
        if run.record is not None and not run.record.control:
            groups.setdefault((run.key.fold, run.key.seed), []).append(run.record)
    verdicts = []
    for (fold, seed), records in sorted(groups.items()):
        weights = {record.initial_weights_hash for record in records if record.initial_weights_hash}
        feeds = [record.feed_hash for record in records if record.feed_hash]
        same = len(weights) == 1 and len(set(feeds)) == 1 if len(feeds) > 1 else None
        if same is not None:
            verdicts.append(same)
        said = {True: "✓ equal", False: "✗ they differ", None: "– one run only"}[same]
        table.rows.append(
            [
                value_cell(fold, str(fold)),
                value_cell(seed, str(seed)),
                value_cell(len(records), str(len(records))),
                Cell(", ".join(sorted(value[:12] for value in weights)) or "–", kind="code"),
                Cell(", ".join(sorted({value[:12] for value in feeds})) or "–", kind="code"),
                Cell(said, said, kind="warn" if same is False else ""),
            ]
        )
    return table, all(verdicts) if verdicts else None


def runs_table(evidence: Evidence) -> Table:
    """Return every run of the plan with its state and what it cost."""
    columns = (
        "loss",
        "fold",
        "seed",
        "state",
        "mean Dice",
        "values",
        "learning rate",
        "steps",
        "precision",
        "training",
        "in all",
    )
    table = Table("Every run of the plan.", columns)
    dice = evidence.rows[(evidence.rows["metric"] == "dice") & evidence.rows["value"].notna()]
    behind = dice.groupby(["loss", "fold", "seed"]).size().to_dict()
    for run in evidence.runs:
        record = run.record or RunRecord()
        why = record.why or "; ".join(record.notes)
        rate = record.learning_rate
        table.rows.append(
            [
                loss_cell(run.key.loss),
                value_cell(run.key.fold, str(run.key.fold)),
                value_cell(run.key.seed, str(run.key.seed)),
                Cell(run.state, run.state, why, kind="" if run.state == "ok" else "warn"),
                value_cell(record.mean_dice),
                value_cell(values := behind.get((run.key.loss, run.key.fold, run.key.seed), 0), str(values)),
                value_cell(rate, "–" if rate is None else f"{rate:g}"),
                value_cell(record.steps, "–" if record.steps is None else str(record.steps)),
                Cell(record.precision or "–"),
                value_cell(record.training_seconds, duration(record.training_seconds)),
                value_cell(record.seconds, duration(record.seconds)),
            ]
        )
    return table


def compute_table(evidence: Evidence) -> Table:
    """Return the time that each loss took."""
    table = Table("", ("loss", "runs", "training in all", "a run (median)", "ms a step (median)", "in all"))
    for loss in evidence.losses:
        records = [run.record for run in evidence.runs if run.record is not None and run.key.loss == loss]
        training = [record.training_seconds for record in records if record.training_seconds is not None]
        steps = [
            1000 * record.training_seconds / record.steps
            for record in records
            if record.training_seconds is not None and record.steps
        ]
        whole = [record.seconds for record in records if record.seconds is not None]
        table.rows.append(
            [
                loss_cell(loss),
                value_cell(len(records), str(len(records))),
                _seconds_cell(sum(training) if training else None),
                _seconds_cell(_median(whole)),
                value_cell(_median(steps), "–" if not steps else f"{_median(steps):.0f}"),
                _seconds_cell(sum(whole) if whole else None),
            ]
        )
    return table


def _seconds_cell(value: float | None) -> Cell:
    return value_cell(value, duration(value))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
