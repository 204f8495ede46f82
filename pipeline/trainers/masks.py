"""Trainers that leave masks: a subclass trains and predicts, and everything else is done here.

The masks are scored by the same panel as those of our own engine, and the records are the same files.
"""

import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pipeline.data.dataset import Case, Dataset
from pipeline.data.folds import Fold
from pipeline.data.plan import Plan
from pipeline.errors import TrainingError
from pipeline.losses import LossSpec
from pipeline.metrics.case_evaluation import Failure, PairEvaluation
from pipeline.metrics.file_pairs import FilePair
from pipeline.records.events import Event, StateEvent, write_events
from pipeline.records.folder import RunFolder
from pipeline.records.run import RunRecord
from pipeline.records.study import PlanRecord
from pipeline.records.table import Score, mean_dice, scores_frame, write_table
from pipeline.system.files import atomic_path, remove_leftovers, write_json
from pipeline.system.folder_lock import exclusive
from pipeline.trainers.trainer import OnStep, Run
from pipeline.training.collapse import never_predicted_classes, with_collapsed_classes


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """The user's wishes that every trainer receives.

    Attributes
    ----------
    budget
        Training budget per run as the user wrote it, for example ``50epochs``; empty for the trainer's own default.
    jobs
        Runs at once; None for the trainer's choice.
    memory_gib
        Memory that one run may use, in GiB.
    keep_predictions
        True if the out-of-fold masks are stored.
    configuration, plans
        Configuration and plans of nnU-Net; None for the defaults.
    """

    budget: str = ""
    jobs: int | None = None
    memory_gib: float = 8.0
    keep_predictions: bool = True
    configuration: str | None = None
    plans: str | None = None


@dataclass(frozen=True, slots=True)
class StudyInputs:
    """What a study gives to a trainer before its first run, and again whenever it continues.

    Attributes
    ----------
    dataset
        Usable cases with classes and channels.
    folds
        Held-out cases of each fold; all others are for training.
    arms, seeds
        Losses with controls, and seeds.
    plan
        Our own plan of the dataset, for the kind of each channel.
    workspace
        Folder for the trainer's own files; it may not exist yet.
    options
        The user's wishes.
    """

    dataset: Dataset
    folds: tuple[Fold, ...]
    arms: tuple[LossSpec, ...]
    seeds: tuple[int, ...]
    plan: Plan
    workspace: Path
    options: TrainerOptions


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all runs of a trainer have in common, for the record of the study.

    Attributes
    ----------
    trainer
        Name for tables and caveats, for example ``nnU-Net v2``.
    steps
        Optimizer steps of each run; None if the trainer does not count them.
    jobs, threads, device
        Runs at once, and the threads and torch device of each.
    optimizer, schedule
        Names for the report.
    versions
        Versions of the packages that train.
    plan
        Settings of preprocessing and network, as far as they are known.
    notes
        Caveats that belong to every verdict on the study.
    """

    trainer: str
    steps: int | None = None
    jobs: int = 1
    threads: int = 1
    device: str = "cpu"
    optimizer: str | None = None
    schedule: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    plan: PlanRecord = field(default_factory=PlanRecord)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trained:
    """What one training leaves.

    Attributes
    ----------
    masks
        Folder with the mask ``CASE.nii.gz`` of each held-out case, on the grid of its label.
    label_values
        Label value of each value in the masks; None if they are the same.
    curve
        Events of the training, with the steps at which they happened.
    steps, seconds
        Optimizer steps, and seconds of the training alone.
    initial_weights_hash, feed_hash
        Equal for all losses of one fold and seed if only the loss differed; None if unknown.
    weights_hash
        Hash of the trained weights.
    notes
        Events that progress and report show.
    """

    masks: Path
    label_values: Sequence[int] | None = None
    curve: Sequence[Event] = ()
    steps: int | None = None
    seconds: float | None = None
    initial_weights_hash: str | None = None
    feed_hash: str | None = None
    weights_hash: str | None = None
    notes: tuple[str, ...] = ()


class MaskTrainer(ABC):
    """Base class of trainers that leave masks; see `pipeline.trainers.trainer.Trainer`.

    Instances are pickled, to reach the processes of a study.
    """

    @classmethod
    @abstractmethod
    def prepare(cls, study: StudyInputs, on_step: OnStep) -> Self:
        """Return a trainer that is ready to carry out runs; what was prepared before is not prepared again.

        Raises
        ------
        ConfigError
            If the trainer cannot do what the options or losses ask for.
        """

    @property
    @abstractmethod
    def conditions(self) -> Conditions:
        """What all runs have in common."""

    @abstractmethod
    def train(self, run: Run, on_step: OnStep) -> Trained:
        """Train with the loss of a run and predict its held-out cases, or the rest of that."""

    @property
    def threads(self) -> int:
        """CPU threads of each run."""
        return self.conditions.threads

    @property
    def device(self) -> str:
        """Torch device of each run."""
        return self.conditions.device

    @property
    def shared_paths(self) -> Sequence[Path]:
        """Nothing besides the study and the dataset."""
        return ()

    @property
    def memory_advice(self) -> str:
        """Advice for runs that need too much memory."""
        return "start a new --out with a smaller --memory"

    @property
    def keeps_predictions(self) -> bool:
        """True if the out-of-fold masks are stored."""
        return True

    def carry_out(self, run: Run, on_step: OnStep) -> None:
        """Train, predict, score the masks and write the records; `run.folder.record` exists afterwards."""
        if run.folder.record.exists():
            return
        with exclusive(run.folder.root):
            if not run.folder.record.exists():
                started = time.perf_counter()
                remove_leftovers(run.folder.root)
                remove_leftovers(run.folder.predictions)
                trained = self.train(run, on_step)
                _record(self, run, trained, _scores(run, trained, on_step), started)

    def clean_up(self, run: Run) -> None:
        """Remove files that only a continued training needs; called once the record is written. By default, none."""
        return


def _scores(run: Run, trained: Trained, on_step: OnStep) -> list[Score]:
    """Return the panel of all held-out cases, and leave their masks in the folder of the run."""
    run.folder.predictions.mkdir(parents=True, exist_ok=True)
    scores: list[Score] = []
    for number, case in enumerate(run.held_out, start=1):
        assert case.label is not None  # a study has labeled cases only
        mask = run.folder.predictions / f"{case.id}.nii.gz"
        _copy_mask(trained, case, mask)
        evaluate = PairEvaluation(run.classes, run.tolerance, annotation=case.annotation)
        result = evaluate(FilePair(case.id, case.label, mask))
        if isinstance(result, Failure):
            raise TrainingError(result.file, result.problem, result.remedy)
        scores += result.scores
        on_step("scoring", number, len(run.held_out))
    return scores


def _copy_mask(trained: Trained, case: Case, target: Path) -> None:
    """Copy the mask of a case, with the label values of the dataset."""
    import nibabel as nib
    import numpy as np

    source = trained.masks / f"{case.id}.nii.gz"
    if not source.exists():
        raise TrainingError(source, "was not predicted", "repeat the command, which continues the study")
    with atomic_path(target) as temporary:
        if trained.label_values is None:
            temporary.write_bytes(source.read_bytes())
            return
        image = nib.Nifti1Image.from_filename(str(source))
        mask = np.asarray(trained.label_values)[np.asarray(image.dataobj).astype(int)].astype(np.int16)
        nib.save(nib.Nifti1Image(mask, image.affine), str(temporary))


def _record(trainer: MaskTrainer, run: Run, trained: Trained, scores: list[Score], started: float) -> None:
    """Write curve, table and, last, the record: its presence means that the run is complete."""
    folder, lost = run.folder, never_predicted_classes(scores)
    why = f"never predicts {', '.join(lost)}" if lost else None
    scores = with_collapsed_classes(scores, lost)
    state_events = [StateEvent(step=trained.steps or 0, state="collapsed", why=why)] if lost else []
    write_events(folder.events, [*trained.curve, *state_events])
    write_table(folder.cases, scores_frame(run.loss.label, run.key.fold, run.key.seed, scores))
    if not trainer.keeps_predictions:
        _remove_masks(folder)
    record = RunRecord(
        loss=run.loss.label,
        fold=run.key.fold,
        seed=run.key.seed,
        control=run.loss.control,
        steps=trained.steps,
        seconds=time.perf_counter() - started,
        threads=trainer.threads,
        device=trainer.device,
        machine=platform.machine(),
        initial_weights_hash=trained.initial_weights_hash,
        cases=tuple(case.id for case in run.held_out),
        state="collapsed" if lost else "ok",
        why=why,
        notes=trained.notes,
        training_seconds=trained.seconds,
        feed_hash=trained.feed_hash,
        weights_hash=trained.weights_hash,
        mean_dice=mean_dice(scores),
    )
    write_json(folder.record, record.to_json())
    trainer.clean_up(run)


def _remove_masks(folder: RunFolder) -> None:
    for path in folder.predictions.glob("*.nii.gz"):
        path.unlink()
    folder.predictions.rmdir()
