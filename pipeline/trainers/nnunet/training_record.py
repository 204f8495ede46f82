"""``segloss.json``: what a trainer of this package leaves in the folder of a fold, beside nnU-Net's own files."""

import hashlib
from pathlib import Path

from pipeline.errors import RecordError
from pipeline.records.model import RecordModel
from pipeline.system.files import write_json

NAME = "segloss.json"

REMEDY = "train the fold again, or remove the file to name the arm by its folder"


class TrainingRecord(RecordModel):
    """One training of nnU-Net with a loss of this package.

    Attributes
    ----------
    loss
        The loss with its arguments, as `pipeline.losses.parse_losses` reads it.
    label
        Name of the arm.
    seed, fold
        Select initial weights and batches. The fold is ``all`` for a training with all cases.
    initial_weights_hash
        SHA-256 of the network's weights before the first step.
    batch_hashes
        SHA-256 of the training batches of each finished epoch.
    iterations
        Training batches of an epoch.
    epochs
        Epochs of the whole training.
    """

    loss: str
    label: str
    seed: int
    fold: int | str
    initial_weights_hash: str
    batch_hashes: tuple[str, ...] = ()
    iterations: int
    epochs: int

    @property
    def feed_hash(self) -> str:
        """SHA-256 of all batches of the finished epochs, in their order."""
        return hashlib.sha256("\n".join(self.batch_hashes).encode()).hexdigest()

    def same_training(self, other: "TrainingRecord") -> bool:
        """Return whether two records describe one training at different epochs."""
        unknown = {"batch_hashes": ()}
        return self.model_copy(update=unknown) == other.model_copy(update=unknown)


def read_training_record(folder: Path) -> TrainingRecord | None:
    """Return the record in the folder of a fold, or None if another trainer made it.

    Raises
    ------
    RecordError
        If the file cannot be read or lacks a field.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return TrainingRecord.parse(path.read_bytes(), path, REMEDY)
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror})", REMEDY) from error


def write_training_record(folder: Path, record: TrainingRecord) -> None:
    """Write the record atomically into the folder of a fold."""
    write_json(folder / NAME, record.to_json())
