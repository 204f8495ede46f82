"""Training of one network: MONAI's `SupervisedTrainer` with one Ignite handler for each concern."""

import logging
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler

from pipeline.losses.progress import pass_progress
from pipeline.network.prediction import training_inferer
from pipeline.records.events import TrainEvent
from pipeline.system.random_streams import derived_seed
from pipeline.training.handlers import GradientRecorder, StopOnNonFiniteLoss, WeightAverage
from pipeline.training.known_labels import loss_on_known_labels
from pipeline.training.patch_sampling import Batch, batches
from pipeline.training.state import Training

# Ignite logs an exception that a handler raises before it reaches the caller, who reports it in one line.
logging.getLogger("ignite").setLevel(logging.CRITICAL)


def clock_s(device: torch.device) -> float:
    """Return the clock of a run in seconds, of which only differences have a meaning.

    With one thread on a CPU it is the CPU time of the thread, so that runs which share a core are timed alike. With
    several threads or on a GPU it is wall-clock time.
    """
    single_thread = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time() if single_thread else time.perf_counter()


def train(
    training: Training,
    *,
    interval: int,
    until: int | None = None,
    on_event: Callable[[TrainEvent], None] = lambda event: None,
    on_step: Callable[[int], None] = lambda step: None,
    on_interval: Callable[[Training], None] = lambda training: None,
) -> None:
    """Train from `training.step` to its end, or to an earlier step.

    Parameters
    ----------
    training
        The training; it is changed in place.
    interval
        Steps between two calls of `on_interval`.
    until
        Step at which to pause; None for the end of the training.
    on_event
        Called with the statistics of every ten steps, and at the end.
    on_step
        Called with the number of completed steps.
    on_interval
        Called after every `interval` steps and at the last step. Its time does not count as time of the training.

    Raises
    ------
    NonFiniteError
        If a loss value is not finite. On a CPU the step is not taken.
    OSError
        If a file of a case cannot be read.
    """
    until = training.steps if until is None else until
    remaining = until - training.step
    if remaining <= 0:
        return
    pass_progress(training.loss, training.progress)
    sampler, on_gpu = training.sampler, training.device.type == "cuda"
    augmentation = sampler.augmentation.build(sampler.plan, sampler.seed, sampler.fold)
    loss_on_known = loss_on_known_labels(training.loss, sampler)

    def prepare_batch(
        batch: Batch, device: torch.device, non_blocking: bool, **_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        first_draw = int(batch["step"]) * sampler.plan.batch
        where = torch.device("cpu") if augmentation.on_cpu else device
        image = batch["image"].to(where, non_blocking=non_blocking)
        label = batch["label"].to(where, non_blocking=non_blocking).float()
        image, label = augmentation(image, label, first_draw)
        training.input_hash.update(image, label)
        if loss_on_known is not None:
            loss_on_known.begin_batch(first_draw)
        return image.to(device), label.to(device)

    trainer = SupervisedTrainer(
        device=training.device,
        max_epochs=1,
        epoch_length=remaining,
        train_data_loader=batches(sampler, training.step, until, prefetch=on_gpu),
        non_blocking=True,
        network=training.network,
        optimizer=training.optimizer,
        loss_function=loss_on_known or training.loss,
        prepare_batch=prepare_batch,
        train_handlers=[
            StopOnNonFiniteLoss(training),
            GradientRecorder(training, on_event),
            LrScheduleHandler(cast("Any", training.schedule), print_lr=False, epoch_level=False),
            WeightAverage(training),
        ],
        decollate=False,
        optim_set_to_none=True,
    )
    started = clock_s(training.device) - training.seconds

    @trainer.on(Events.ITERATION_COMPLETED)
    def _count(engine: Engine) -> None:
        training.step += 1
        training.seconds = clock_s(training.device) - started
        pass_progress(training.loss, training.progress)
        on_step(training.step)

    @trainer.on(Events.ITERATION_COMPLETED)
    def _pause(engine: Engine) -> None:
        nonlocal started
        if training.step % interval == 0 or training.step == until:
            on_interval(training)
            started = clock_s(training.device) - training.seconds

    def noise_seed() -> int:
        return derived_seed(sampler.seed, "noise", sampler.fold, training.step)

    with training_inferer(
        training.network, sampler.batch_shape, training.precision, training.device, noise_seed
    ) as trainer.inferer:
        trainer.run()
