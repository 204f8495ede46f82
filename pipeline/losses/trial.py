"""A trial of losses before a dataset is known: each is built, computed and differentiated once."""

from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.losses.loss_spec import LossSpec
from pipeline.losses.synthetic_gradients import loss_gradients, synthetic_batches

CLASSES = (2, 3, 4)
"""Numbers of classes, background included, that a loss is tried with; one that works is enough."""


def try_losses(losses: Sequence[LossSpec]) -> None:
    """Compute each loss once on small synthetic patches.

    Class weights fix the number of classes, which is why several are tried.

    Raises
    ------
    ConfigError
        If a loss works for no number of classes; the error is that of the first.
    """
    for spec in losses:
        lengths = [len(value) for value in spec.arguments.values() if isinstance(value, list)]
        _try_loss(spec, (*CLASSES, *(length for length in lengths if length > max(CLASSES))))


def _try_loss(spec: LossSpec, numbers: Sequence[int]) -> None:
    errors = []
    for classes in numbers:
        voxels = (900, *(50,) * (classes - 1))
        try:
            loss_gradients(spec, voxels, synthetic_batches(voxels, None, 0)[:1])
            return
        except ConfigError as error:
            errors.append(error)
    raise errors[0]
