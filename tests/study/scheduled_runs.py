"""Runs for tests of executors, with a trainer that does what a test wants instead of training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.losses import LossSpec
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.tolerance import Tolerance
from pipeline.study.executors.executor import ScheduledRun
from pipeline.trainers.trainer import Run


def nothing(run, on_step):
    """Do nothing."""


@dataclass
class StandInTrainer:
    """A trainer on one thread of a CPU."""

    does: Callable = nothing
    threads: int = 1
    device: str = "cpu"
    shared_paths: tuple[Path, ...] = ()
    memory_advice: str = "start a new --out with less --memory"

    def carry_out(self, run, on_step):
        self.does(run, on_step)


def scheduled_run(root, fold, trainer=None):
    """Return a run of Dice with seed 0 in the folder `root`."""
    folder = RunFolder(root, RunKey("dice", fold, 0))
    return ScheduledRun(
        trainer or StandInTrainer(), Run(folder, LossSpec("dice"), {1: "a"}, (9, 1), (), (), Tolerance(1.0))
    )
