"""The loss of a training on cases of which some voxels or classes are unknown."""

import torch
from torch import nn

from pipeline.data.annotation import has_ignored, is_partial
from pipeline.losses.deep_supervision import DeeplySupervised
from pipeline.losses.known import Kept, loss_on_known
from pipeline.network.deep_supervision import Outputs, full_resolution
from pipeline.training.patch_sampling import PatchSampler


class LossOnKnownLabels:
    """The loss of a batch on its known voxels and classes (`pipeline.losses.known`).

    Parameters
    ----------
    loss
        The loss of the training.
    sampler
        Tells which case each draw shows, and what was annotated in it.
    """

    def __init__(self, loss: nn.Module, sampler: PatchSampler) -> None:
        self.loss, self.sampler = loss, sampler
        self.kept: list[Kept] = []

    def begin_batch(self, first_draw: int) -> None:
        """Look up the known classes of the draws of the next batch."""
        cases = (self.sampler.case_of(first_draw + index) for index in range(self.sampler.plan.batch))
        known = (case.annotation.classes for case in cases)
        self.kept = [None if classes is None else (0, *classes) for classes in known]

    def __call__(self, output: Outputs, target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss of a network's output and class indices (B, 1, *S), 255 for ignored voxels."""
        if isinstance(self.loss, DeeplySupervised):
            inner = self.loss.loss
            return self.loss.over_resolutions(
                output, target, lambda logits, labels: loss_on_known(inner, logits, labels, self.kept)
            )
        return loss_on_known(self.loss, full_resolution(output), target, self.kept)


def loss_on_known_labels(loss: nn.Module, sampler: PatchSampler) -> LossOnKnownLabels | None:
    """Return the loss on what is known of the sampler's cases; None if everything is known, so that `loss` serves."""
    annotations = [case.annotation for case in sampler.cases]
    return LossOnKnownLabels(loss, sampler) if has_ignored(annotations) or is_partial(annotations) else None
