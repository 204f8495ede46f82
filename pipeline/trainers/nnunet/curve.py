"""`progress.csv`: the curve of a training of nnU-Net by epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.events import Event, TrainEvent, ValidationEvent

TIMES = ("epoch_start_timestamps", "epoch_end_timestamps")


def read_curve(folder: Path) -> pd.DataFrame:
    """Return the curve of one fold, a row for each epoch; empty if it was not recorded as CSV.

    Parameters
    ----------
    folder
        Folder of the fold.

    Raises
    ------
    RecordError
        If the file cannot be read as CSV.
    """
    path = folder / "progress.csv"
    if not path.exists():
        return pd.DataFrame()
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RecordError(path, f"cannot be read as CSV ({error})", "remove it: the comparison does without") from error


def training_seconds(curve: pd.DataFrame) -> float | None:
    """Return the seconds of all epochs, without the time between stops; None if they were not recorded."""
    if not set(TIMES) <= set(curve):
        return None
    return float((curve["epoch_end_timestamps"] - curve["epoch_start_timestamps"]).sum())


def curve_events(curve: pd.DataFrame, iterations: int) -> list[Event]:
    """Return the curve as events of a run; nnU-Net's Dice is that of patches during training.

    Parameters
    ----------
    curve
        As `read_curve` returns it.
    iterations
        Optimizer steps of an epoch.
    """
    events: list[Event] = []
    seconds = 0.0
    for epoch, row in enumerate(curve.to_dict("records"), start=1):
        step = epoch * iterations
        seconds += float(row.get("epoch_end_timestamps", 0.0)) - float(row.get("epoch_start_timestamps", 0.0))
        events.append(
            TrainEvent(step=step, loss=_number(row, "train_losses"), learning_rate=_number(row, "lrs"), seconds=seconds)
        )
        events.append(ValidationEvent(step=step, seconds=seconds, mean_dice=_number(row, "mean_fg_dice")))
    return events


def _number(row: Mapping[Any, Any], name: str) -> float | None:
    value = row.get(name)
    return None if value is None or pd.isna(value) else float(value)
