"""The weights of a bundle: a final training on all cases, or the ensemble of the study's folds."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from statistics import median
from typing import Any, Literal

import torch

from pipeline.bundle.configs import ensemble_weights
from pipeline.bundle.largest_component import out_of_fold_masks
from pipeline.bundle.source import StudySource
from pipeline.errors import BundleError
from pipeline.losses import build_loss
from pipeline.network.architecture import build_network
from pipeline.network.precision import Precision
from pipeline.training.checkpoint import ResumePoint, load_checkpoint
from pipeline.training.patch_sampling import PatchSampler
from pipeline.training.preparation import prepare_dataset
from pipeline.training.state import NonFiniteError, Training
from pipeline.training.trainer import train

Origin = Literal["final", "folds"]
CHECKPOINTS = 10
Report = Callable[[int, int], None]
"""Takes how many parts of a stage are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What an origin costs.

    `training_s` is the median time of a training in the study, on the machine of the study; `masks` is the number of
    out-of-fold masks that are checked in any case. `networks` are run for each prediction.
    """

    origin: Origin
    training_s: float
    networks: int
    masks: int

    def line(self) -> str:
        """Return it as the line a user reads."""
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


def costs(source: StudySource) -> tuple[Cost, Cost]:
    """Return the cost of a final training, by the time its runs took, and of the ensemble of folds."""
    training = median(record["training_seconds"] or 0.0 for record in source.records)
    masks = len(out_of_fold_masks(source))
    return Cost("final", training, 1, masks), Cost("folds", 0.0, len(source.runs), masks)


def fold_weights(source: StudySource) -> tuple[dict[str, torch.Tensor], int]:
    """Return the weights of the ensemble of all finished runs of the loss, and the number of its members."""
    members = []
    for run in source.runs:
        saved = load_checkpoint(run.checkpoint)
        if saved is None:
            raise BundleError(run.checkpoint, "cannot be read", "run the study again; it redoes what is missing")
        members.append(saved["network"])
    if len(members) == 1:
        return members[0], 1
    return ensemble_weights(members, len(source.dataset.channels), len(source.dataset.classes)), len(members)


def final_weights(
    source: StudySource, on_step: Report, on_case: Report = lambda done, of: None
) -> tuple[dict[str, torch.Tensor], Any]:
    """Return the weights of a training on all cases, and its settings for the card.

    Steps, precision and preprocessing are those of the study; the learning rate is the median of those that the runs
    chose on their own training cases. Stopped, it continues from its last checkpoint, under ``final`` in the study.
    `on_case` reports cases that are prepared, `on_step` steps of the training.
    """
    rate = median(record["learning_rate"] for record in source.records)
    precision: Precision = source.settings["precision"]
    try:
        training = _train(source, rate, precision, on_step, on_case)
    except NonFiniteError as error:
        if precision == "float32":
            raise BundleError(source.study.root, str(error), "export with --from folds") from None
        try:
            training = _train(source, rate, "float32", on_step, on_case)
        except NonFiniteError as second:
            raise BundleError(source.study.root, str(second), "export with --from folds") from None
    told = {
        "learning_rate": rate,
        "steps": training.steps,
        "precision": training.precision,
        "seconds": training.seconds,
        "feed_hash": training.input_hash.state,
    }
    return {name: tensor.cpu() for name, tensor in training.averaged_network.state_dict().items()}, told


def _train(source: StudySource, rate: float, precision: Precision, on_step: Report, on_case: Report) -> Training:
    settings, plan = source.settings, source.plan
    steps, seed, fold = settings["budget"]["steps"], settings["seeds"][0], settings["folds"]
    prepared = count(1)
    cases = prepare_dataset(
        source.dataset,
        plan,
        source.content_hashes,
        source.study.root / "prepared",
        on_case=lambda: on_case(next(prepared), len(source.dataset.cases)),
    )
    # As many threads as a run of the study: more wait for each other on small volumes, and where cores are taken a step
    # cost ten times as much CPU time. So the study's own times hold here too.
    torch.set_num_threads(settings["machine"]["threads"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loss = replace(source.loss) if source.loss.label else source.loss
    training = Training(
        network=build_network(plan, len(source.dataset.channels), len(source.dataset.classes), seed, fold),
        loss=build_loss(loss, source.class_voxels),
        sampler=PatchSampler(tuple(cases[case.id] for case in source.dataset.cases), plan, seed, fold),
        learning_rate=rate,
        steps=steps,
        precision=precision,
        device=device,
    )
    folder = source.study.root / "final" / f"{source.loss.label}-{precision}"
    folder.mkdir(parents=True, exist_ok=True)
    resume: ResumePoint[dict[str, Any]] = ResumePoint(folder)
    saved = resume.load()
    if saved is not None and saved["learning_rate"] == rate and saved["steps"] == steps:
        training.restore(saved["training"])

    def pause(training: Training) -> None:
        resume.save({"learning_rate": rate, "steps": steps, "training": training.state()})

    interval = max(1, -(-steps // CHECKPOINTS))
    train(training, interval=interval, on_step=lambda step: on_step(step, steps), on_interval=pause)
    return training
