"""`segloss sweep`: the same losses on phantoms with ever less foreground, one small study for each fraction."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from pipeline.data.phantoms import make_phantoms
from pipeline.data.plan import Plan
from pipeline.errors import ConfigError, RecordError
from pipeline.losses import parse_losses
from pipeline.records.folder import StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.table import COLUMNS, write_table
from pipeline.study.budget import Budget
from pipeline.study.progress import Watcher
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.system.files import atomic_path, write_json

DEFAULT_LOSSES = "ce,weighted_ce,dice,dice_squared,dice_ce"
DEFAULT_FRACTIONS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
FEATURES = (8, 16, 32)
"""Of the sweep's network: phantoms are easy, and it is losses that are to differ."""

MEGAVOXELS_OF_A_BATCH = 0.03
ISOTROPIC_OF_FIVE = 3
"""Of five phantoms in a row as many have equal edges; the others would lose tiny structures in the resampling."""

SWEEP_COLUMNS = ("fraction", *COLUMNS)


@dataclass(frozen=True, slots=True)
class SweepRequest:
    """The arguments of ``segloss sweep``.

    `fractions` are those of labelled voxels; `cases` how many phantoms of `shape` voxels each level has; `seeds`,
    `folds`, `budget`, `learning_rates` and `jobs` are those of each level's study.
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
                "are not different numbers above 0",
                "give e.g. 0.1,0.01,0.001",
            )
        if self.cases < 2 * self.folds:
            raise ConfigError(
                f"--cases {self.cases}", f"are too few for {self.folds} folds", f"give {2 * self.folds} or more"
            )
        parse_losses(self.losses)
        Budget.parse(self.budget)

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a sweep to be continued; fractions, losses and seeds may be added."""
        return {
            "folds": self.folds,
            "cases": self.cases,
            "budget": self.budget,
            "shape": list(self.shape),
            "first_seed": self.first_seed,
            "learning_rates": list(self.learning_rates) if self.learning_rates else None,
        }


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Paths inside one sweep.

    ::

        sweep.json                        settings and the fractions
        sweep.csv                         every out-of-fold value: fraction, then the columns of cases.csv
        sweep.html, sweep.svg             the page and its figure alone
        levels/<fraction>/phantoms, study one dataset and one study for each fraction
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Settings, written before the first level."""
        return self.root / "sweep.json"

    @property
    def table(self) -> Path:
        """The long table of all levels."""
        return self.root / "sweep.csv"

    @property
    def page(self) -> Path:
        """The self-contained HTML page."""
        return self.root / "sweep.html"

    @property
    def figure(self) -> Path:
        """The figure alone."""
        return self.root / "sweep.svg"

    def phantoms(self, fraction: float) -> Path:
        """Return the dataset of a level."""
        return self.root / "levels" / f"{fraction:g}" / "phantoms"

    def study(self, fraction: float) -> StudyFolder:
        """Return the study of a level."""
        return StudyFolder(self.root / "levels" / f"{fraction:g}" / "study")

    def read_settings(self) -> dict[str, Any]:
        """Return sweep.json; a `RecordError` where there is none."""
        try:
            return dict(json.loads(self.settings.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise RecordError(self.root, "is not a sweep (no readable sweep.json)", "give another --out") from error


def run_sweep(
    request: SweepRequest, watcher: Watcher, on_level: Callable[[SweepFolder], object] = lambda sweep: None
) -> SweepFolder:
    """Carry out a sweep, or what is left of it, largest fraction first; `on_level` is called when a level is in.

    Raises
    ------
    ConfigError, RecordError
        Where the request cannot be carried out, or the folder holds a sweep of other settings.
    """
    sweep = SweepFolder(request.out)
    _begin(sweep, request)
    fractions = sorted(request.fractions, reverse=True)
    for index, fraction in enumerate(fractions, start=1):
        watcher.say(f"level {index} of {len(fractions)}: {fraction:.4%} foreground")
        make_level(sweep.phantoms(fraction), fraction, request.cases, request.shape, request.first_seed)
        run_study(_study_request(sweep, request, fraction), watcher, adjust=small, here=request.jobs == 1)
        write_table(sweep.table, gather_sweep(sweep))
        on_level(sweep)
    return sweep


def gather_sweep(sweep: SweepFolder) -> pd.DataFrame:
    """Return the rows of every finished run of every level, with its fraction in the first column."""
    frames = []
    for fraction in sweep.read_settings()["fractions"]:
        study = sweep.study(fraction)
        if study.settings.exists():
            frame = gather_cases(study)
            frame.insert(0, "fraction", fraction)
            frames.append(frame)
    whole = [frame for frame in frames if not frame.empty]
    return pd.concat(whole, ignore_index=True) if whole else pd.DataFrame(columns=list(SWEEP_COLUMNS))


def small(plan: Plan) -> Plan:
    """Return the plan with a small network and batch; the patch stays the whole volume, with all its background."""
    every = plan.strides if plan.stem == (1, 1, 1) else (plan.stem, *plan.strides)
    strides = every[: len(FEATURES) - 1]
    batch = max(1, round(1e6 * MEGAVOXELS_OF_A_BATCH / float(np.prod(plan.patch))))
    reasons = {**plan.reasons, "network": "small, for a sweep", "batch": f"{batch} whole phantoms"}
    return replace(
        plan,
        channels=FEATURES[: len(strides) + 1],
        strides=strides,
        stem=(1, 1, 1),
        patch=plan.inference_window,
        window=None,
        batch=batch,
        reasons=reasons,
    )


def make_level(
    folder: Path, fraction: float, cases: int, shape: tuple[int, int, int] = (32, 32, 32), seed: int = 0
) -> None:
    """Write phantoms of one foreground class, all on isotropic grids; nothing is done where they are there.

    The structures of `pipeline.data.phantoms` are merged, so that the fraction is that of the one class.
    """
    if (folder / "dataset.json").exists():
        return
    raw = folder.parent / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    count = -(-cases * 5 // ISOTROPIC_OF_FIVE) + 1
    make_phantoms(raw, count, seed=seed, foreground_fraction=fraction, shape=shape)
    description = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    kept = [entry for entry in description["training"] if _is_isotropic(raw / entry["label"])][:cases]
    for entry in kept:
        image: Any = nib.load(raw / entry["label"])
        merged: Any = nib.Nifti1Image((np.asanyarray(image.dataobj) > 0).astype(np.uint8), image.affine, image.header)
        with atomic_path(folder / entry["label"]) as temporary:
            nib.save(merged, temporary)
        (folder / entry["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(raw / entry["image"], folder / entry["image"])
    labels = {"0": "background", "1": "foreground"}
    description |= {"name": f"Phantoms of {fraction:g}", "training": kept, "numTraining": len(kept), "labels": labels}
    write_json(folder / "dataset.json", description)
    shutil.rmtree(raw)


def _is_isotropic(path: Path) -> bool:
    image: Any = nib.load(path)
    edges: Sequence[float] = image.header.get_zooms()[:3]
    return max(edges) < 1.01 * min(edges)


def _begin(sweep: SweepFolder, request: SweepRequest) -> None:
    """Write the settings, or add the fractions of this request to those of a sweep that is continued."""
    stored: list[float] = []
    if sweep.settings.exists():
        settings = sweep.read_settings()
        asked = request.identity()
        different = [
            f"{name} {settings['request'].get(name)} → {asked[name]}"
            for name in asked
            if settings["request"].get(name) != asked[name]
        ]
        if different:
            raise RecordError(
                sweep.root,
                f"holds a sweep of other settings ({'; '.join(different)})",
                "give another --out, or the same settings",
            )
        stored = settings["fractions"]
    fractions = sorted({*stored, *request.fractions}, reverse=True)
    content = {"schema": 1, "request": request.identity(), "fractions": fractions, "command": request.command}
    write_json(sweep.settings, content)


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
        track=False,
        command=request.command,
    )
