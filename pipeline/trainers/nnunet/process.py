"""nnU-Net in a process of its own: ``python -m pipeline.trainers.nnunet.process``.

nnU-Net takes its folders from environment variables and the number of its processes at import, so that every task gets
a fresh interpreter. The process ends, with all processes that it started, when the one that started it is gone.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from pipeline.system.operating_system import end_group_with_parent


@dataclass(frozen=True, slots=True)
class PlanTask:
    """Plan and preprocess a dataset for one configuration.

    Attributes
    ----------
    planner
        Class of nnU-Net that plans the experiment.
    plans
        Name of the plans that it writes.
    configuration
        Configuration to preprocess.
    memory_gib
        Memory of a GPU that nnU-Net plans for, in GiB.
    processes
        Processes at once.
    """

    planner: str
    plans: str
    configuration: str
    memory_gib: float
    processes: int

    def carry_out(self) -> None:
        """Write fingerprint, plans and preprocessed cases of dataset 1."""
        from nnunetv2.experiment_planning import plan_and_preprocess_api as api

        api.extract_fingerprints([1], num_processes=self.processes, show_progress_bar=False)
        api.plan_experiments([1], self.planner, gpu_memory_target_in_gb=self.memory_gib)
        api.preprocess(
            [1],
            self.plans,
            configurations=[self.configuration],
            num_processes=[self.processes],
            show_progress_bar=False,
        )


Mode = Literal["begin", "continue", "validate"]


@dataclass(frozen=True, slots=True)
class TrainTask:
    """Train one fold, or continue it, or only predict its held-out cases.

    Attributes
    ----------
    dataset, configuration, plans, trainer
        Names, as ``nnUNetv2_train`` takes them.
    fold
        Position in ``splits_final.json``.
    mode
        Where to begin.
    device
        ``cpu`` or ``cuda``.
    threads
        CPU threads of the network.
    """

    dataset: str
    configuration: str
    fold: int
    trainer: str
    plans: str
    mode: Mode
    device: str
    threads: int

    def carry_out(self) -> None:
        """Call nnU-Net's own training, then its validation."""
        import torch
        from nnunetv2.run.run_training import run_training

        torch.set_num_threads(self.threads)
        run_training(
            self.dataset,
            self.configuration,
            self.fold,
            self.trainer,
            self.plans,
            continue_training=self.mode == "continue",
            only_run_validation=self.mode == "validate",
            device=torch.device(self.device),
        )


Task = PlanTask | TrainTask
_TASKS: Mapping[str, type[Task]] = {"plan": PlanTask, "train": TrainTask}


def command_of(task: Task) -> list[str]:
    """Return the command line of a process that carries out a task."""
    name = next(name for name, kind in _TASKS.items() if isinstance(task, kind))
    return [sys.executable, "-u", "-m", "pipeline.trainers.nnunet.process", name, json.dumps(asdict(task))]


def main() -> None:
    """Carry out the task that the command line names."""
    end_group_with_parent()
    _make_torchvision_importable()
    name, arguments = sys.argv[1:]
    _TASKS[name](**json.loads(arguments)).carry_out()


def _make_torchvision_importable() -> None:
    """Declare the operators without which torchvision refuses to be imported beside a torch of another build.

    This is common on machines without a GPU. nnU-Net imports torchvision, but segmentation uses none of the operators.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except ImportError:
        return  # nnU-Net says what is missing.
    except RuntimeError:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


if __name__ == "__main__":
    main()
