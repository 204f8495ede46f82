"""nnU-Net's trainer with a loss of this package, seeded weights and seeded batches.

`whichloss nnunet trainers` writes subclasses that nnU-Net finds by name. Everything else is nnU-Net's: plans, network,
optimizer, augmentation, deep supervision and validation.
"""

import csv
import hashlib
import io
import math
from pathlib import Path
from typing import Any

import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from pipeline.errors import RecordError
from pipeline.losses import LossSpec, parse_losses
from pipeline.losses.catalogue import USES_CLASS_VOXELS
from pipeline.network.weights_hash import weights_hash
from pipeline.system.files import write_text
from pipeline.system.random_streams import derived_seed
from pipeline.trainers.nnunet.class_voxels import class_voxels, count_labels
from pipeline.trainers.nnunet.loss_adapter import AdaptedLoss, TargetFormat, adapted_loss
from pipeline.trainers.nnunet.seeded_batches import HASH, SeededBatches
from pipeline.trainers.nnunet.training_record import (
    NAME,
    TrainingRecord,
    read_training_record,
    write_training_record,
)

CURVES = ("train_losses", "val_losses", "mean_fg_dice", "lrs", "epoch_start_timestamps", "epoch_end_timestamps")
"""Columns of ``progress.csv`` after the epoch: names in nnU-Net's log."""

VALIDATION_SHARE = 5
"""nnU-Net validates with a fifth as many batches as it trains with: 50 after 250."""

MOST_EPOCHS_BETWEEN_CHECKPOINTS = 50
"""Of nnU-Net. Short trainings store a checkpoint every twentieth of their epochs."""

CUDA = torch.device("cuda")


class LossTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net has no types
    """nnU-Net's trainer with a loss of `pipeline.losses`.

    Trainings of one seed and fold share the initial weights, and the content and order of their batches, whatever their
    loss and the number of augmentation processes. `pipeline.trainers.nnunet.training_record` stores hashes of both.

    Subclasses set the class attributes.

    Attributes
    ----------
    loss
        The loss, as `pipeline.losses.parse_losses` reads it. In an instance it is the module, as in nnU-Net.
    label
        Name of the arm in comparisons.
    seed
        Seed of weights and batches.
    epochs, iterations
        Epochs, and training batches per epoch; None for nnU-Net's own number.
    """

    loss: Any = "dice_ce"
    label: str = "dice_ce"
    seed: int = 0
    epochs: int | None = None
    iterations: int | None = None

    # nnU-Net reads the names of these parameters.
    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = CUDA,
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.epochs is not None:
            self.num_epochs = self.epochs
        if self.iterations is not None:
            self.num_iterations_per_epoch = self.iterations
            self.num_val_iterations_per_epoch = max(1, self.iterations // VALIDATION_SHARE)
        self.save_every = max(1, min(MOST_EPOCHS_BETWEEN_CHECKPOINTS, self.num_epochs // 20))
        self._adapted: AdaptedLoss
        self._record: TrainingRecord
        self._epoch_hash = hashlib.sha256()
        self._iterations_done = 0

    @property
    def spec(self) -> LossSpec:
        """The loss that the class names."""
        (spec,) = parse_losses(type(self).loss)
        return spec

    def initialize(self) -> None:
        """Build network, optimizer and loss, with weights drawn for (seed, fold)."""
        # The network is built on the CPU, so weights do not depend on the device.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derived_seed(self.seed, "weights", self.fold))
            super().initialize()

    def _build_loss(self) -> nn.Module:
        self._adapted = adapted_loss(self.spec, self._target_format()).to(self.device)
        wrapper: nn.Module = super()._build_loss()
        if not isinstance(wrapper, DeepSupervisionWrapper):
            return self._adapted
        wrapper.loss = self._adapted
        return wrapper

    def _target_format(self) -> TargetFormat:
        labels = self.label_manager
        regions = None
        if labels.has_regions:
            regions = [(int(item),) if not isinstance(item, tuple) else item for item in labels.foreground_regions]
        if self.spec.name in USES_CLASS_VOXELS:
            counts = count_labels(
                Path(self.preprocessed_dataset_folder_base),
                self.do_split()[0],
                self.dataset_json["file_ending"],
                self.plans_manager.image_reader_writer_class().read_seg,
            )
        else:
            counts = dict.fromkeys(labels.all_labels, 1)
        voxels = class_voxels(counts, labels.num_segmentation_heads, regions, labels.ignore_label)
        return TargetFormat(voxels, labels.has_regions, labels.ignore_label)

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return nnU-Net's loaders of training and validation batches, seeded."""
        training, validation = super().get_dataloaders()
        return (
            self._seeded(training, "training", self.num_iterations_per_epoch),
            self._seeded(validation, "validation", self.num_val_iterations_per_epoch),
        )

    def _seeded(self, augmenter: Any, name: str, iterations: int) -> Any:
        """Return an augmenter like nnU-Net's with seeded batches, from the current epoch on."""
        words: tuple[str | int, ...] = ("nnunet batches", name, self.fold)
        if self.is_ddp:
            words = (*words, self.local_rank)
        first = self.current_epoch * iterations
        if isinstance(augmenter, SingleThreadedAugmenter):
            return SingleThreadedAugmenter(SeededBatches(augmenter.data_loader, self.seed, words, first, 1), None)
        workers: int = augmenter.num_processes
        augmenter._finish()
        seeded = MultiThreadedAugmenter(
            SeededBatches(augmenter.generator, self.seed, words, first, workers),
            None,
            workers,
            num_cached_per_queue=math.ceil(augmenter.num_cached / workers),
            pin_memory=augmenter.pin_memory,
            wait_time=augmenter.wait_time,
        )
        seeded.restart()
        return seeded

    def on_train_start(self) -> None:
        """Start or resume the record, then do what nnU-Net does."""
        if not self.was_initialized:
            self.initialize()
        self._record = self._resumed_record() if self.current_epoch else self._new_record()
        super().on_train_start()
        self._write_record()

    def _new_record(self) -> TrainingRecord:
        return TrainingRecord(
            loss=self.spec.text,
            label=self.label,
            seed=self.seed,
            fold=self.fold,
            initial_weights_hash=weights_hash(self.network),
            iterations=self.num_iterations_per_epoch,
            epochs=self.num_epochs,
        )

    def _resumed_record(self) -> TrainingRecord:
        """Return the record of the finished epochs.

        Raises
        ------
        RecordError
            If there is none, or it belongs to another training.
        """
        path = Path(self.output_folder) / NAME
        stored = read_training_record(path.parent)
        remedy = "start the training again without --c"
        if stored is None or len(stored.batch_hashes) < self.current_epoch:
            raise RecordError(path, f"does not reach epoch {self.current_epoch} of the checkpoint", remedy)
        expected = self._new_record().model_copy(update={"initial_weights_hash": stored.initial_weights_hash})
        if not stored.same_training(expected):
            raise RecordError(path, "belongs to a training with another loss, seed or number of epochs", remedy)
        return stored.model_copy(update={"batch_hashes": stored.batch_hashes[: self.current_epoch]})

    def _write_record(self) -> None:
        if self.local_rank == 0:
            write_training_record(Path(self.output_folder), self._record)

    def on_train_epoch_start(self) -> None:
        """Seed what the network draws (dropout) for this epoch."""
        super().on_train_epoch_start()
        self._epoch_hash = hashlib.sha256()
        self._iterations_done = self.current_epoch * self.num_iterations_per_epoch
        torch.manual_seed(derived_seed(self.seed, "network", self.fold, self.current_epoch))

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do one step, with the schedule of the loss at the current progress."""
        self._epoch_hash.update(batch[HASH].encode())
        self._adapted.set_progress(self._iterations_done / (self.num_epochs * self.num_iterations_per_epoch))
        self._iterations_done += 1
        result: dict[str, Any] = super().train_step(batch)
        return result

    def on_epoch_end(self) -> None:
        """Write record and curves, and what nnU-Net writes."""
        # The record comes first: nnU-Net may store a checkpoint, and the record must reach at least as far.
        hashes = (*self._record.batch_hashes, self._epoch_hash.hexdigest())
        self._record = self._record.model_copy(update={"batch_hashes": hashes})
        self._write_record()
        super().on_epoch_end()
        if self.local_rank == 0:
            write_text(Path(self.output_folder) / "progress.csv", self._curves())

    def _curves(self) -> str:
        """Return the log of all epochs as CSV."""
        columns = [self.logger.get_value(name, None) for name in CURVES]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("epoch", *CURVES))
        for epoch, row in enumerate(zip(*columns, strict=False)):
            writer.writerow((epoch, *(float(value) for value in row)))
        return text.getvalue()
