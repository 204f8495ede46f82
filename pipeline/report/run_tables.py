"""The tables of runs: numbers of their curves, verification of fair pairing, states, and time spent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.comparison.evidence import Evidence
from pipeline.records.run import RunRecord
from pipeline.report.diagnostics import diagnose
from pipeline.report.formatting import NO_VALUE, duration, percent, signed
from pipeline.report.tables import Cell, Table, count_cell, loss_cell, text_cell, value_cell

HASH_DIGITS = 12


def diagnostics_table(evidence: Evidence) -> Table:
    """Return the numbers of the learning curves of each loss."""
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
        diagnostics = diagnose(own)
        rates, medians = diagnostics.learning_rates, diagnostics.medians
        spike = NO_VALUE if medians.spike is None else f"{medians.spike:.1f} × median"
        roughness = NO_VALUE if medians.roughness is None else f"{medians.roughness:.1f} % of its fall"
        table.rows.append(
            [
                loss_cell(loss),
                count_cell(len(own)),
                text_cell(", ".join(f"{rate:g}" for rate in rates) or NO_VALUE),
                value_cell(medians.gradient_norm),
                value_cell(medians.spike, spike),
                value_cell(medians.foreground_share, percent(medians.foreground_share)),
                value_cell(medians.agreement, signed(medians.agreement)),
                value_cell(medians.roughness, roughness),
                value_cell(medians.correlation, signed(medians.correlation)),
            ]
        )
    return table


@dataclass(frozen=True, slots=True)
class PairingCheck:
    """Comparison of the initial weights and the patches of all losses within each fold and seed.

    `equal` tells whether both are the same everywhere; None if no fold and seed has two runs to compare.
    """

    table: Table
    equal: bool | None


def check_pairing(evidence: Evidence) -> PairingCheck:
    """Compare the hashes of initial weights and patches within each fold and seed; controls are left out."""
    table = Table("", ("fold", "seed", "losses", "initial weights", "patches", "same for all losses"))
    groups: dict[tuple[int, int], list[RunRecord]] = {}
    for run in evidence.runs:
        if run.record is not None and not run.record.control:
            groups.setdefault((run.key.fold, run.key.seed), []).append(run.record)
    results = []
    for (fold, seed), records in sorted(groups.items()):
        weights = {record.initial_weights_hash for record in records if record.initial_weights_hash}
        patches = [record.feed_hash for record in records if record.feed_hash]
        equal = len(weights) == 1 and len(set(patches)) == 1 if len(patches) > 1 else None
        if equal is not None:
            results.append(equal)
        unknown = "– only one run" if len(records) == 1 else "– not recorded"
        conclusion = {True: "✓ equal", False: "✗ different", None: unknown}[equal]
        table.rows.append(
            [
                count_cell(fold),
                count_cell(seed),
                count_cell(len(records)),
                _hashes_cell(weights),
                _hashes_cell(set(patches)),
                text_cell(conclusion, kind="warn" if equal is False else ""),
            ]
        )
    return PairingCheck(table, all(results) if results else None)


def _hashes_cell(hashes: set[str]) -> Cell:
    return Cell(", ".join(sorted(value[:HASH_DIGITS] for value in hashes)) or NO_VALUE, kind="code")


def runs_table(evidence: Evidence) -> Table:
    """Return every planned run with its state, result and time."""
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
        "training time",
        "total time",
    )
    table = Table("Every planned run.", columns)
    dice = evidence.rows[(evidence.rows["metric"] == "dice") & evidence.rows["value"].notna()]
    values = dice.groupby(["loss", "fold", "seed"]).size().to_dict()
    for run in evidence.runs:
        record = run.record or RunRecord()
        rate = record.learning_rate
        table.rows.append(
            [
                loss_cell(run.key.loss),
                count_cell(run.key.fold),
                count_cell(run.key.seed),
                text_cell(run.state, record.why or "; ".join(record.notes), "" if run.state == "ok" else "warn"),
                value_cell(record.mean_dice),
                count_cell(int(values.get((run.key.loss, run.key.fold, run.key.seed), 0))),
                value_cell(rate, NO_VALUE if rate is None else f"{rate:g}"),
                value_cell(record.steps, NO_VALUE if record.steps is None else str(record.steps)),
                Cell(record.precision or NO_VALUE),
                _seconds_cell(record.training_seconds),
                _seconds_cell(record.seconds),
            ]
        )
    return table


def compute_table(evidence: Evidence) -> Table:
    """Return the time that each loss took."""
    columns = ("loss", "runs", "training, total", "one run (median)", "ms per step (median)", "total")
    table = Table("", columns)
    for loss in evidence.losses:
        records = [run.record for run in evidence.runs if run.record is not None and run.key.loss == loss]
        training = [record.training_seconds for record in records if record.training_seconds is not None]
        step_ms = _median(
            [
                1000 * record.training_seconds / record.steps
                for record in records
                if record.training_seconds is not None and record.steps
            ]
        )
        total = [record.seconds for record in records if record.seconds is not None]
        table.rows.append(
            [
                loss_cell(loss),
                count_cell(len(records)),
                _seconds_cell(sum(training) if training else None),
                _seconds_cell(_median(total)),
                value_cell(step_ms, NO_VALUE if step_ms is None else f"{step_ms:.0f}"),
                _seconds_cell(sum(total) if total else None),
            ]
        )
    return table


def _seconds_cell(value: float | None) -> Cell:
    return value_cell(value, duration(value))


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None
