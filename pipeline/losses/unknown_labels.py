"""Refusal, before any training, of losses that cannot do without the labels that a dataset lacks."""

from collections.abc import Sequence

import torch

from pipeline.data.annotation import IGNORED_INDEX
from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, build_loss
from pipeline.losses.catalogue import USES_POSITIONS
from pipeline.losses.known import Kept, loss_on_known
from pipeline.losses.synthetic_gradients import synthetic_batches


def refuse_losses_without_support(
    specs: Sequence[LossSpec], class_voxels: Sequence[int], *, ignored: bool, partial: bool
) -> None:
    """Compute each loss once on patches of which something is unknown, and refuse one that cannot be computed.

    Parameters
    ----------
    specs
        The losses.
    class_voxels
        Voxels of each class in the training labels, background first.
    ignored
        True if labels may have ignored voxels.
    partial
        True if some cases were annotated for some of the classes only.

    Raises
    ------
    ConfigError
        A loss uses distances although voxels are ignored, or it cannot be computed on a part of the voxels or classes.
    """
    if not (ignored or partial):
        return
    for spec in specs:
        if ignored and (spec.name in USES_POSITIONS or _says_it_uses_positions(spec, class_voxels)):
            raise ConfigError(
                f"--losses {spec.text}",
                "needs the label of every voxel, since it uses distances, and the dataset has an ignore label",
                "leave this loss out",
            )
    batch = synthetic_batches(class_voxels, None, 0)[1]
    target, kept = batch.target.clone(), list[Kept]([None, None])
    if ignored:
        target[..., ::2] = IGNORED_INDEX
    if partial and len(class_voxels) > 2:
        kept[0] = tuple(range(len(class_voxels) - 1))
    for spec in specs:
        loss = build_loss(spec, class_voxels)
        try:
            value = loss_on_known(loss, batch.logits.clone().requires_grad_(), target, kept)
            value.backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # a user's own class may raise anything, and all of it is a wrong request
            reason = f"{type(error).__name__}: {error}".replace("\n", " ")
            raise ConfigError(
                f"--losses {spec.text}",
                f"could not be computed on a part of the voxels or classes ({reason})",
                "see docs/how-to/incomplete-labels.md for what a loss of your own receives",
            ) from error
        if not bool(torch.isfinite(value)):
            raise ConfigError(f"--losses {spec.text}", "is not finite where labels are unknown", "leave this loss out")


def _says_it_uses_positions(spec: LossSpec, class_voxels: Sequence[int]) -> bool:
    """Return whether a user's class has the attribute `uses_positions = True` and does not take the known voxels."""
    if not spec.is_custom:
        return False
    loss = build_loss(spec, class_voxels)
    return getattr(loss.inner, "uses_positions", False) is True and not getattr(loss, "takes_known", False)
