"""A loss over logits of several resolutions, and Dice over a whole batch, as in nnU-Net."""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from pipeline.losses.progress import pass_progress


def supervision_weights(resolutions: int) -> list[float]:
    """Return the weights of logits from full resolution downwards, which sum to 1.

    Each is half of the one before. The lowest resolution has the weight 0, unless it is the only one.

    Examples
    --------
    >>> from pipeline.losses.deep_supervision import supervision_weights
    >>> supervision_weights(3)
    [0.6666666666666666, 0.3333333333333333, 0.0]
    """
    weights = [0.5**index for index in range(resolutions)]
    if resolutions > 1:
        weights[-1] = 0.0
    return [weight / sum(weights) for weight in weights]


class DeeplySupervised(nn.Module):
    """The weighted mean of a loss over resolutions; labels are resampled to each by their nearest voxel.

    Parameters
    ----------
    loss
        Loss of logits (B, K, *S) and class indices (B, 1, *S).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: torch.Tensor | tuple[torch.Tensor, ...], target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of a network's output.

        Parameters
        ----------
        output
            Logits (B, K, *patch), or a tuple of logits from full resolution downwards.
        target
            Class indices (B, 1, *patch) float32.
        """
        return self.over_resolutions(output, target, self.loss)

    @staticmethod
    def over_resolutions(
        output: torch.Tensor | tuple[torch.Tensor, ...],
        target: torch.Tensor,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> torch.Tensor:
        """Return the weighted mean of any loss over resolutions; see `forward`."""
        outputs = (output,) if isinstance(output, torch.Tensor) else output
        weighted = zip(supervision_weights(len(outputs)), outputs, strict=True)
        # A loss may be undefined on a few voxels, so one with the weight 0 is not computed.
        losses = [weight * loss(logits, _resampled(target, logits)) for weight, logits in weighted if weight]
        return torch.stack(losses).sum()

    def set_progress(self, fraction: float) -> None:
        """Pass the completed share of the training, 0 to 1, to a loss with a schedule."""
        pass_progress(self.loss, fraction)


def _resampled(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    same = target.shape[2:] == logits.shape[2:]
    return target if same else functional.interpolate(target, logits.shape[2:], mode="nearest-exact")


def use_batch_overlap(loss: nn.Module) -> None:
    """Compute the overlap in all of MONAI's losses inside `loss` over the whole batch, not per image; it is changed.

    Dice, Jaccard, Tversky and their kin have this option. Other losses stay as they are.
    """
    for module in loss.modules():
        if type(module).__module__.startswith("monai.losses.") and isinstance(getattr(module, "batch", None), bool):
            module.batch = True  # type: ignore[assignment]  # no parameter or module
