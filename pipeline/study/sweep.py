"""`whichloss sweep`: the same losses on phantoms with ever less foreground, one small study for each fraction."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.errors import ConfigError, RecordError
from pipeline.losses import parse_losses
from pipeline.records.gather import gather_cases
from pipeline.records.table import COLUMNS, write_table
from pipeline.study.budget import Budget
from pipeline.study.progress import Progress
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.study.sweep_folder import SweepFolder, SweepRecord, SweepRequestRecord
from pipeline.study.sweep_levels import make_level, small_network
from pipeline.system.files import write_json

DEFAULT_LOSSES = "ce,weighted_ce,dice,dice_squared,dice_ce"
DEFAULT_FRACTIONS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)

SWEEP_COLUMNS = ("fraction", *COLUMNS)


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """The arguments of ``whichloss sweep``.

    Attributes
    ----------
    out
        Folder of the sweep.
    losses
        Names, import paths with arguments, or a YAML file.
    fractions
        Fractions of foreground voxels, one level each.
    seeds, folds, budget, learning_rates, jobs
        Those of the study of each level.
    cases
        Phantoms of each level.
    shape
        Shape of each phantom in voxels.
    first_seed
        Seed of the phantoms, and the first seed of each study.
    command
        Command line, for the record.

    Raises
    ------
    ConfigError
        If a value is out of range or does not fit another.
    """

    out: Path
    losses: str = DEFAULT_LOSSES
    fractions: tuple[float, ...] = DEFAULT_FRACTIONS
    seeds: int = 3
    folds: int = 2
    cases: int = 16
    budget: str = "200steps"
    shape: tuple[int, int, int] = (32, 32, 32)
    first_seed: int = 0
    learning_rates: tuple[float, ...] | None = None
    jobs: int | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if not self.fractions or min(self.fractions) <= 0 or len(set(self.fractions)) < len(self.fractions):
            raise ConfigError(
                f"--fractions {','.join(map(str, self.fractions))}",
                "must be different numbers above 0",
                "use e.g. 0.1,0.01,0.001",
            )
        if self.cases < 2 * self.folds:
            raise ConfigError(
                f"--cases {self.cases}", f"are too few for {self.folds} folds", f"use {2 * self.folds} or more"
            )
        parse_losses(self.losses)
        Budget.parse(self.budget)

    def identity(self) -> SweepRequestRecord:
        """Return the arguments that must stay the same for the sweep to be continued.

        Fractions, losses and seeds may be added.
        """
        return SweepRequestRecord(
            folds=self.folds,
            cases=self.cases,
            budget=self.budget,
            shape=self.shape,
            first_seed=self.first_seed,
            learning_rates=self.learning_rates or None,
        )


def run_sweep(
    request: SweepRequest, progress: Progress, on_level: Callable[[SweepFolder], object] = lambda sweep: None
) -> SweepFolder:
    """Carry out a sweep, or the rest of it, from the largest fraction to the smallest.

    Parameters
    ----------
    request
        Arguments of the user.
    progress
        Receives the progress of all studies.
    on_level
        Called after each level, once the table holds its results.

    Raises
    ------
    ConfigError, RecordError
        If the request cannot be carried out, or the folder holds a sweep with other settings.
    """
    sweep = SweepFolder(request.out)
    _write_record(sweep, request)
    fractions = sorted(request.fractions, reverse=True)
    for index, fraction in enumerate(fractions, start=1):
        progress.message(f"level {index} of {len(fractions)}: {fraction:.4%} foreground")
        make_level(sweep.phantoms(fraction), fraction, request.cases, request.shape, request.first_seed)
        study_request = _study_request(sweep, request, fraction)
        run_study(study_request, progress, adjust_plan=small_network, in_process=request.jobs == 1)
        write_table(sweep.table, gather_sweep(sweep))
        on_level(sweep)
    return sweep


def gather_sweep(sweep: SweepFolder) -> pd.DataFrame:
    """Return the rows of every finished run of every level, with the fraction of the level in the first column."""
    frames = []
    for fraction in sweep.read_record().fractions:
        study = sweep.study(fraction)
        if study.settings.exists():
            frame = gather_cases(study)
            frame.insert(0, "fraction", fraction)
            frames.append(frame)
    filled = [frame for frame in frames if not frame.empty]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(SWEEP_COLUMNS))


def _write_record(sweep: SweepFolder, request: SweepRequest) -> None:
    """Write the settings, or add the fractions of the request to those of an existing sweep."""
    identity, fractions = request.identity(), set(request.fractions)
    if sweep.settings.exists():
        record = sweep.read_record()
        stored, requested = record.request.model_dump(mode="json"), identity.model_dump(mode="json")
        differences = [f"{name} {stored[name]} → {value}" for name, value in requested.items() if stored[name] != value]
        if differences:
            raise RecordError(
                sweep.root,
                f"holds a sweep with other settings ({'; '.join(differences)})",
                "use another --out, or the same settings",
            )
        fractions.update(record.fractions)
    record = SweepRecord(
        schema=1, request=identity, fractions=tuple(sorted(fractions, reverse=True)), command=request.command
    )
    write_json(sweep.settings, record.to_json())


def _study_request(sweep: SweepFolder, request: SweepRequest, fraction: float) -> StudyRequest:
    return StudyRequest(
        dataset=sweep.phantoms(fraction),
        out=sweep.study(fraction).root,
        losses=request.losses,
        folds=request.folds,
        seeds=request.seeds,
        first_seed=request.first_seed,
        budget=request.budget,
        jobs=request.jobs,
        learning_rates=request.learning_rates,
        keep_predictions=False,
        absent_means="absent",  # phantoms are labeled completely
        track=False,
        command=request.command,
    )
