"""The interface of trainers: what carries out the runs of a study.

Our own engine (`pipeline.trainers.engine`) and nnU-Net (`pipeline.trainers.nnunet`) are its implementations. A trainer
that only trains and predicts derives from `pipeline.trainers.masks.MaskTrainer`, which does the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.data.dataset import Case
from pipeline.losses import LossSpec
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.tolerance import Tolerance

OnStep = Callable[[str, int, int], None]
"""Called with the stage, the parts of it that are done, and its parts in all."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as every trainer is given it.

    Attributes
    ----------
    folder
        Folder of the run, with the label of the loss, fold and seed as its key.
    loss
        The loss and its arguments.
    classes
        Foreground label values and names, in ascending order of value.
    class_voxels
        Voxels of each class in the training labels, background first.
    training, held_out
        Cases to train on, and cases to predict.
    tolerance
        Tolerance of surface Dice.
    """

    folder: RunFolder
    loss: LossSpec
    classes: Mapping[int, str]
    class_voxels: tuple[int, ...]
    training: tuple[Case, ...]
    held_out: tuple[Case, ...]
    tolerance: Tolerance

    @property
    def key(self) -> RunKey:
        """Loss, fold and seed."""
        return self.folder.key


class Trainer(Protocol):
    """Interface of everything that carries out runs. Trainers are pickled, to reach the processes of a study."""

    @property
    def threads(self) -> int:
        """CPU threads of each run."""

    @property
    def device(self) -> str:
        """Torch device of each run: ``cpu`` or ``cuda``."""

    @property
    def shared_paths(self) -> Sequence[Path]:
        """Files or folders besides the study and the dataset that every node of a cluster must see."""

    @property
    def memory_advice(self) -> str:
        """Return how to begin a study whose runs need less memory, for error messages."""

    def carry_out(self, run: Run, on_step: OnStep) -> None:
        """Train with the loss of the run, predict its held-out cases, and leave masks, curves and record in its folder.

        Nothing is done if the record exists. A run that was stopped continues where that is possible. All runs of one
        fold and seed must have the same initial weights and batches, whatever the loss; the record holds their hashes.

        Raises
        ------
        ConfigError
            If the loss cannot be built.
        RecordError
            If another process is carrying out the run.
        TrainingError
            If the run cannot be completed.
        OSError
            If a file cannot be read or written.
        """
