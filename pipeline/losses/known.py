"""A loss on what is known of a batch: one mechanism around every loss.

Each image is reduced to what was annotated, and the loss is called with the rest. Results are averaged over images.

- **Ignored voxels** are left out: the loss receives the known voxels of an image in one row, as logits (1, C, N, 1, 1)
  and class indices (1, 1, N, 1, 1). This suits every loss that does not use positions.
- **Classes that were not annotated** in an image are merged with the background, as the label merges them: the logit of
  this union is the logarithm of the sum of their exponentials, and its probability the sum of theirs. This is the
  marginal loss of Shi et al. 2021 (doi:10.1016/j.media.2021.101979). The loss then sees fewer classes, so that means
  over classes do not count those that are unknown. Class weights are reduced to the same classes.
- An image without any known voxel, or without any annotated class, contributes nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from pipeline.data.annotation import IGNORED_INDEX

Kept = Sequence[int] | None
"""Indices of the known classes of an image in ascending order, the background first; None for all."""

CLASS_VECTORS = ("weight", "weights", "class_weight", "class_weights", "pos_weight")
"""Attributes of losses that may hold one number for each class."""


def loss_on_known(
    loss: nn.Module, logits: torch.Tensor, target: torch.Tensor, kept: Sequence[Kept] | None = None
) -> torch.Tensor:
    """Return a loss on the known voxels and classes of a batch.

    Parameters
    ----------
    loss
        Called with logits (1, C, *S) and class indices (1, 1, *S) of one image. A loss with the argument `known`
        receives whole images and the mask (1, 1, *S) of their known voxels; any other receives the known voxels alone,
        as (1, C, N, 1, 1) and (1, 1, N, 1, 1). C may be smaller than the number of classes.
    logits
        Logits (B, C, *S).
    target
        Class indices (B, 1, *S); 255 for ignored voxels.
    kept
        Known classes of each image; None if all classes of all images are known.

    Returns
    -------
    Tensor
        Scalar: the mean over the images of which something is known, and 0 without any. If everything is known, it is
        ``loss(logits, target)``.

    Examples
    --------
    >>> from pipeline.losses import build_loss, parse_losses
    >>> ce = build_loss(parse_losses("ce")[0], class_voxels=(9, 1, 1))
    >>> logits, target = torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)
    >>> round(float(loss_on_known(ce, logits, target, kept=[(0, 1)])), 4)  # -log(2/3): two of three classes are merged
    0.4055
    """
    kept = kept or [None] * len(logits)
    known = target != IGNORED_INDEX
    has_ignored = not bool(known.all())
    if not has_ignored and all(classes is None for classes in kept):
        whole: torch.Tensor = loss(logits, target)
        return whole
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()  # before logits of classes are summed
    values = []
    for members, classes in _groups(loss, kept):
        mask = known[members] if has_ignored else None
        value = _value(loss, logits[members], target[members], mask, classes)
        if value is not None:
            values += [value] * len(members)
    if not values:
        # The sum of no elements is 0 and gives every logit the gradient 0, also where a logit is infinite.
        return logits[:0].float().sum()
    return torch.stack(values).mean()


def _groups(loss: nn.Module, kept: Sequence[Kept]) -> Iterator[tuple[list[int], Kept]]:
    """Yield images that are computed together: single ones, or all with the same classes for a loss of whole batches.

    MONAI's losses have the argument `batch` for the latter.
    """
    if not any(getattr(module, "batch", False) is True for module in loss.modules()):
        yield from (([index], classes) for index, classes in enumerate(kept))
        return
    for classes in dict.fromkeys(kept):
        yield [index for index, own in enumerate(kept) if own == classes], classes


def _value(
    loss: nn.Module, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None, classes: Kept
) -> torch.Tensor | None:
    """Return the loss of images with the same known classes; None if nothing is known of them."""
    if classes is not None and len(classes) < 2:
        return None
    arguments = {}
    if known is not None:
        if not bool(known.any()):
            return None
        if getattr(loss, "takes_known", False):
            target, arguments = target.masked_fill(~known, 0), {"known": known}
        else:
            columns = known.flatten().nonzero()[:, 0]
            logits, target = _voxels(logits, columns), _voxels(target, columns)
    value: torch.Tensor
    if classes is None:
        value = loss(logits, target, **arguments)
        return value
    count = logits.shape[1]
    with _of_classes(loss, classes, count):
        value = loss(_marginal(logits, classes), _renumbered(target, classes, count), **arguments)
        return value


def _voxels(tensor: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return some voxels of all images (B, C, *S) in one row (1, C, N, 1, 1), with as many axes as before."""
    row = tensor.movedim(1, 0).flatten(1).index_select(1, columns)
    # The other axes stay, with length 1, so that losses find all spatial axes.
    return row.reshape(1, len(row), -1, *(1,) * (tensor.ndim - 3))


def _marginal(logits: torch.Tensor, classes: Sequence[int]) -> torch.Tensor:
    """Return logits (B, K, *S) of the known classes; the background's stands for all other classes too."""
    unknown = [index for index in range(logits.shape[1]) if index == 0 or index not in classes]
    background = logits[:, unknown].logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, list(classes[1:])]], 1)


def _renumbered(target: torch.Tensor, classes: Sequence[int], count: int) -> torch.Tensor:
    """Return class indices among the known classes; 0 for all others."""
    position = torch.zeros(max(count, IGNORED_INDEX + 1), dtype=target.dtype, device=target.device)
    position[list(classes)] = torch.arange(len(classes), dtype=target.dtype, device=target.device)
    return position[target.long()]


@contextmanager
def _of_classes(loss: nn.Module, classes: Sequence[int], count: int) -> Iterator[None]:
    """Reduce the class weights of a loss, with or without one of the background, to some classes."""
    before = []
    for module in loss.modules():
        for name in CLASS_VECTORS:
            value = getattr(module, name, None)
            if isinstance(value, torch.Tensor) and not isinstance(value, nn.Parameter) and value.ndim == 1:
                if value.numel() == count:
                    chosen = value[list(classes)]
                elif value.numel() == count - 1 and count > 2:
                    chosen = value[[index - 1 for index in classes[1:]]]
                else:
                    continue
                before.append((module, name, value))
                setattr(module, name, chosen)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
