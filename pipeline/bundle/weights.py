"""The weights of a bundle: a final training on all cases, or the ensemble of the study's folds."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any, Literal

import torch

from pipeline.bundle.largest_component import out_of_fold_masks
from pipeline.bundle.named_network import exportable_weights
from pipeline.bundle.network_config import ensemble_weights
from pipeline.bundle.source import StudySource
from pipeline.errors import BundleError
from pipeline.network.precision import Precision
from pipeline.system.files import sha256_of_file
from pipeline.training.checkpoint import ResumePoint, load_checkpoint
from pipeline.training.preparation import prepare_dataset
from pipeline.training.settings import RunSettings, new_training
from pipeline.training.state import NonFiniteError, Training
from pipeline.training.trainer import train

Origin = Literal["final", "folds"]
CHECKPOINTS = 10
OnProgress = Callable[[int, int], None]
"""Receives the number of parts of a stage that are done, and their total."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a bundle by the origin of its weights.

    Attributes
    ----------
    origin
        ``final``, a training on all cases, or ``folds``, the ensemble of the study's networks.
    training_s
        Median time of a training in the study, on the machine of the study; 0 for ``folds``.
    networks
        Number of networks that are run for each prediction.
    masks
        Number of out-of-fold masks that are checked in either case.
    """

    origin: Origin
    training_s: float
    networks: int
    masks: int

    def line(self) -> str:
        """Return the cost as one line of text.

        Examples
        --------
        >>> Cost("folds", 0.0, 5, 0).line()
        'folds: no training, and there are no masks to check; predicts with 5 networks, 5 times as long a case'
        """
        checks = f"{self.masks} out-of-fold masks are checked" if self.masks else "there are no masks to check"
        if self.origin == "final":
            return (
                f"final: one training on all cases, about {self.training_s:.0f} s as in the study, and {checks}; "
                "predicts with one network"
            )
        return (
            f"folds: no training, and {checks}; predicts with {self.networks} networks, {self.networks} times as long "
            "a case"
        )


@dataclass(frozen=True, slots=True)
class FinalTraining:
    """Settings of the training on all cases, for the model card."""

    learning_rate: float
    precision: Precision


def costs(source: StudySource) -> tuple[Cost, Cost]:
    """Return the cost of a final training and of the ensemble of folds."""
    training_s = median(run.training_s for run in source.runs)
    masks = len(out_of_fold_masks(source))
    return Cost("final", training_s, 1, masks), Cost("folds", 0.0, len(source.runs), masks)


def fold_weights(source: StudySource) -> tuple[dict[str, torch.Tensor], int]:
    """Return the weights of the ensemble of all finished runs of the loss, and the number of its members.

    Raises
    ------
    BundleError
        If a checkpoint cannot be read.
    """
    members = []
    for run in source.runs:
        path = run.folder.checkpoint
        saved = load_checkpoint(path)
        if saved is None:
            raise BundleError(path, "cannot be read", "run the study again; it repeats the runs that are missing")
        members.append(_in_bundle(source, saved["network"]))
    if len(members) == 1:
        return members[0], 1
    return ensemble_weights(members, len(source.dataset.channels), len(source.dataset.classes)), len(members)


def final_weights(
    source: StudySource, on_step: OnProgress, on_case: OnProgress = lambda done, of: None
) -> tuple[dict[str, torch.Tensor], FinalTraining]:
    """Return the weights of a training on all cases, and its settings.

    Steps, precision and preprocessing are those of the study; the learning rate is the median of those that the runs
    chose on their own training cases. An interrupted training continues from its last checkpoint, under ``final`` in
    the study.

    Parameters
    ----------
    source
        The study.
    on_step, on_case
        Progress of the training in steps, and of the preparation in cases.

    Raises
    ------
    BundleError
        If the loss or the network's weights do not stay finite, in float32 either, or if the file of pretrained weights
        is not that of the study.
    """
    _check_pretrained(source)
    rate = median(run.learning_rate for run in source.runs)
    try:
        training = _train(source, rate, source.precision, on_step, on_case)
    except NonFiniteError as error:
        if source.precision == "float32":
            raise BundleError(source.study.root, str(error), "export with --from folds") from None
        try:
            training = _train(source, rate, "float32", on_step, on_case)
        except NonFiniteError as second:
            raise BundleError(source.study.root, str(second), "export with --from folds") from None
    weights = {name: tensor.cpu() for name, tensor in training.averaged_network.state_dict().items()}
    return _in_bundle(source, weights), FinalTraining(rate, training.precision)


def _in_bundle(source: StudySource, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    channels, classes = len(source.dataset.channels), len(source.dataset.classes)
    return exportable_weights(source.network, source.plan, channels, classes, weights)


def _check_pretrained(source: StudySource) -> None:
    """Refuse a final training that would begin from other weights than the runs of the study."""
    weights = source.network.weights
    if weights is None:
        return
    problem = "has changed since the study began"
    try:
        if sha256_of_file(weights) == source.weights_sha256:
            return
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise BundleError(weights, problem, "restore the file of pretrained weights, or export with --from folds")


def _train(
    source: StudySource, rate: float, precision: Precision, on_step: OnProgress, on_case: OnProgress
) -> Training:
    steps, prepared = source.steps, count(1)
    cases = prepare_dataset(
        source.dataset,
        source.plan,
        source.content_hashes,
        source.study.root / "prepared",
        on_case=lambda: on_case(next(prepared), len(source.dataset.cases)),
    )
    # As many threads as a run of the study: more wait for each other on small volumes, and on busy cores a step takes
    # ten times as much CPU time. So the times of the study hold here too.
    torch.set_num_threads(source.threads)
    settings = RunSettings(
        loss=source.loss,
        fold=source.folds,  # folds are numbered from 0: this training, of no fold, has random streams of its own
        seed=source.seeds[0],
        plan=source.plan,
        classes=source.dataset.foreground,
        class_voxels=source.class_voxels,
        training=tuple(cases[case.id] for case in source.dataset.cases),
        patients=tuple(case.patient for case in source.dataset.cases),
        validation=(),
        originals={},
        steps=steps,
        precision=precision,
        learning_rates=(rate,),
        threads=source.threads,
        device="cuda" if torch.cuda.is_available() else "cpu",
        recipe=source.recipe,
    )
    training = new_training(settings, settings.training, rate, steps)
    folder = source.study.root / "final" / f"{source.loss.label}-{precision}"
    folder.mkdir(parents=True, exist_ok=True)
    resume: ResumePoint[dict[str, Any]] = ResumePoint(folder)
    saved = resume.load()
    if saved is not None and saved["learning_rate"] == rate and saved["steps"] == steps:
        training.restore(saved["training"])

    def save(training: Training) -> None:
        resume.save({"learning_rate": rate, "steps": steps, "training": training.state()})

    interval = max(1, -(-steps // CHECKPOINTS))
    train(training, interval=interval, on_step=lambda step: on_step(step, steps), on_interval=save)
    return training
