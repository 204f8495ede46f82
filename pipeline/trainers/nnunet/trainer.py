"""nnU-Net v2 as the trainer of a study: it plans and preprocesses once, and each run is one of its trainings."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

from pipeline.data.nifti_header import format_shape
from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import RunKey
from pipeline.records.study import PlanRecord
from pipeline.system.files import remove_leftovers, write_json
from pipeline.system.operating_system import available_cores
from pipeline.trainers.masks import Conditions, MaskTrainer, StudyInputs, Trained
from pipeline.trainers.nnunet.budget import EpochBudget
from pipeline.trainers.nnunet.child import run_child
from pipeline.trainers.nnunet.curve import curve_events, read_curve, training_seconds
from pipeline.trainers.nnunet.json_file import read_json_object
from pipeline.trainers.nnunet.plans import plan_of, read_configurations
from pipeline.trainers.nnunet.process import Mode, PlanTask, TrainTask
from pipeline.trainers.nnunet.request import (
    CONFIGURATIONS,
    DEFAULT_CONFIGURATION,
    DEFAULT_PLANS,
    PLANNERS,
    check_request,
)
from pipeline.trainers.nnunet.trainer_files import write_trainers
from pipeline.trainers.nnunet.training_record import read_training_record
from pipeline.trainers.nnunet.workspace import FILE_ENDING, Workspace, splits, workspace_of, write_raw_dataset
from pipeline.trainers.trainer import OnStep, Run

PACKAGES = ("nnunetv2", "batchgeneratorsv2", "dynamic-network-architectures")

GPU_NOTE = "nnU-Net's arithmetic on a GPU is not deterministic: two trainings with one seed differ a little."

CPU_VARIABLES = {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
"""Variables of nnU-Net for a training on a CPU, unless the user has set them."""

_EPOCH = re.compile(r"Epoch (\d+)\s*$")
_PREDICTING = re.compile(r"predicting \S")


@dataclass(frozen=True)
class NnunetTrainer(MaskTrainer):
    """nnU-Net with one trainer class for each loss and seed; see `pipeline.trainers.nnunet.loss_trainer`.

    Attributes
    ----------
    workspace
        Folders of nnU-Net.
    names
        Class of nnU-Net's trainer by loss and seed.
    positions
        Position of each fold in ``splits_final.json``.
    label_values
        Label value of each value in nnU-Net's masks; None if they are the same.
    configuration, plans
        Names of nnU-Net.
    budget
        Epochs and their length.
    settings
        Conditions of all runs.
    keep_predictions
        True if the masks are stored.
    """

    workspace: Workspace
    names: Mapping[tuple[str, int], str]
    positions: Mapping[int, int]
    label_values: Sequence[int] | None
    configuration: str
    plans: str
    budget: EpochBudget
    settings: Conditions
    keep_predictions: bool

    @classmethod
    def prepare(cls, study: StudyInputs, on_step: OnStep) -> Self:
        """Convert the dataset, plan, preprocess, and write the trainer classes.

        Raises
        ------
        ConfigError
            If nnU-Net is not installed, or lacks the configuration or plans.
        TrainingError
            If nnU-Net fails.
        """
        configuration = study.options.configuration or DEFAULT_CONFIGURATION
        plans = study.options.plans or DEFAULT_PLANS
        budget = EpochBudget.parse(study.options.budget)
        check_request(configuration, plans)
        workspace = workspace_of(study.workspace, study.dataset)
        jobs, threads, device = _machine(study.options.jobs)
        _plan(study, workspace, configuration, plans, on_step)
        plan = _plan_record(workspace, configuration, plans)
        names: dict[tuple[str, int], str] = {}
        for file in write_trainers(study.arms, study.seeds, workspace.trainers, budget.epochs, budget.iterations):
            names |= {(file.label, seed): name for seed, name in file.class_names.items()}
        values = sorted(study.dataset.classes)
        return cls(
            workspace=workspace,
            names=names,
            positions={fold.index: position for position, fold in enumerate(study.folds)},
            label_values=None if values == list(range(len(values))) else values,
            configuration=configuration,
            plans=plans,
            budget=budget,
            settings=Conditions(
                trainer="nnU-Net v2",
                steps=budget.steps,
                jobs=jobs,
                threads=threads,
                device=device,
                optimizer="SGD with Nesterov momentum 0.99",
                schedule="polynomial, from epoch to epoch",
                versions={name: version(name) for name in PACKAGES},
                plan=plan,
                notes=(GPU_NOTE,) if device == "cuda" else (),
            ),
            keep_predictions=study.options.keep_predictions,
        )

    @property
    def conditions(self) -> Conditions:
        """What all runs have in common."""
        return self.settings

    @property
    def keeps_predictions(self) -> bool:
        """True if the masks are stored."""
        return self.keep_predictions

    @property
    def memory_advice(self) -> str:
        """Advice to let nnU-Net plan for less memory."""
        patch = self.settings.plan.patch
        of = f", which lets nnU-Net plan for less than its patch of {format_shape(patch)} voxels" if patch else ""
        return f"start a new --out with a smaller --memory{of}"

    def train(self, run: Run, on_step: OnStep) -> Trained:
        """Train one fold in a child process, from its last checkpoint on, and let nnU-Net predict the held-out cases.

        Raises
        ------
        TrainingError
            If nnU-Net fails.
        MemoryError
            If it runs out of memory.
        """
        folder, position = self._folder(run.key), self.positions[run.key.fold]
        mode = _mode(folder, [case.id for case in run.held_out])
        if mode is not None:
            remove_leftovers(folder)
            task = TrainTask(
                dataset=self.workspace.dataset,
                configuration=self.configuration,
                fold=position,
                trainer=self.names[run.key.loss, run.key.seed],
                plans=self.plans,
                mode=mode,
                device=self.device,
                threads=self.threads,
            )
            progress = _Progress(self.budget.epochs, len(run.held_out), on_step)
            run_child(task, self._environment(), run.folder.root / "nnunet.log", progress)
        return self._trained(folder)

    def _folder(self, key: RunKey) -> Path:
        """Return nnU-Net's folder of a training."""
        arm = f"{self.names[key.loss, key.seed]}__{self.plans}__{self.configuration}"
        return self.workspace.results / arm / f"fold_{self.positions[key.fold]}"

    def _environment(self) -> dict[str, str]:
        variables = self.workspace.environment()
        if self.device == "cuda":
            return variables | _own_gpu()
        # On a CPU, augmentation and the network compete for the same cores.
        return variables | CPU_VARIABLES | {"OMP_NUM_THREADS": str(self.threads)} | _set_by_user(CPU_VARIABLES)

    def _trained(self, folder: Path) -> Trained:
        curve = read_curve(folder)
        record = read_training_record(folder)
        if record is None:
            raise RecordError(folder, "holds a training without segloss.json", "remove the folder; it is trained again")
        return Trained(
            masks=folder / "validation",
            label_values=self.label_values,
            curve=curve_events(curve, self.budget.iterations),
            steps=self.budget.steps,
            seconds=training_seconds(curve),
            initial_weights_hash=record.initial_weights_hash,
            feed_hash=record.feed_hash,
        )

    def clean_up(self, run: Run) -> None:
        """Remove nnU-Net's second copy of the masks, and the weights of the best epoch, which nothing uses."""
        folder = self._folder(run.key)
        for path in (*(folder / "validation").glob(f"*{FILE_ENDING}"), folder / "checkpoint_best.pth"):
            path.unlink(missing_ok=True)


def _machine(jobs: int | None) -> tuple[int, int, str]:
    """Return runs at once, threads of each, and the device: one run on each GPU, or one on all cores."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    jobs = jobs or max(gpus, 1)
    return jobs, max(1, available_cores() // jobs), "cuda" if gpus else "cpu"


def _set_by_user(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}


def _own_gpu() -> dict[str, str]:
    """Return the variable that shows a child only the GPU that was chosen for this process."""
    import torch

    index = torch.cuda.current_device()
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return {"CUDA_VISIBLE_DEVICES": visible[index] if visible else str(index)}


def _plan(study: StudyInputs, workspace: Workspace, configuration: str, plans: str, on_step: OnStep) -> None:
    """Write dataset, plans, preprocessed cases and splits, unless all of it is complete."""
    description = {
        "configuration": configuration,
        "plans": plans,
        "memory_gib": study.options.memory_gib,
        "cases": [case.id for case in study.dataset.cases],
    }
    if workspace.prepared.exists() and read_json_object(workspace.prepared, "remove it") == description:
        return
    total = len(study.dataset.cases)
    on_step("converting for nnU-Net", 0, total)
    done = iter(range(1, total + 1))
    write_raw_dataset(
        study.dataset, study.plan, workspace, lambda: on_step("converting for nnU-Net", next(done), total)
    )
    on_step("planning and preprocessing by nnU-Net", 0, 1)
    processes = available_cores()
    task = PlanTask(PLANNERS[plans], plans, configuration, study.options.memory_gib, processes)
    environment = workspace.environment() | {"nnUNet_def_n_proc": str(processes)}
    run_child(task, environment, workspace.root / "nnunet.log", lambda line: None)
    write_json(workspace.preprocessed / "splits_final.json", splits(study.dataset, study.folds))
    write_json(workspace.prepared, description)
    on_step("planning and preprocessing by nnU-Net", 1, 1)


def _plan_record(workspace: Workspace, configuration: str, plans: str) -> PlanRecord:
    """Return what nnU-Net planned.

    Raises
    ------
    ConfigError
        If nnU-Net planned no such configuration, as for images that are small enough without ``3d_lowres``.
    """
    planned = read_configurations(workspace.preprocessed / f"{plans}.json", f"remove {workspace.prepared}")
    if configuration not in planned:
        raise ConfigError(
            f"--configuration {configuration}",
            "is not planned by nnU-Net for this dataset",
            f"choose from {', '.join(name for name in planned if name in CONFIGURATIONS)}",
        )
    return plan_of(planned[configuration])


def _mode(folder: Path, held_out: Sequence[str]) -> Mode | None:
    """Return where a training has to begin; None if its masks are complete."""
    masks = folder / "validation"
    if (masks / "summary.json").exists() and all((masks / f"{case}{FILE_ENDING}").exists() for case in held_out):
        return None
    if (folder / "checkpoint_final.pth").exists():
        return "validate"
    started = any((folder / f"checkpoint_{name}.pth").exists() for name in ("latest", "best"))
    return "continue" if started else "begin"


class _Progress:
    """Reader of nnU-Net's log that reports epochs and predicted cases."""

    def __init__(self, epochs: int, cases: int, on_step: OnStep) -> None:
        self.epochs, self.cases, self.on_step = epochs, cases, on_step
        self.predicted = 0

    def __call__(self, line: str) -> None:
        if match := _EPOCH.search(line):
            self.on_step("training", int(match[1]), self.epochs)
        elif _PREDICTING.search(line):
            self.predicted += 1
            self.on_step("prediction", self.predicted, self.cases)
