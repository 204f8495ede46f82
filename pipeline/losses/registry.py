"""The builders of all losses, by name.

Conventions that all losses share:

- Logits in a 16-bit format are converted to float32 first.
- Probabilities come from a softmax over classes.
- The overlap of Dice-type losses is computed per image over the foreground classes. `generalized_dice` includes the
  background: without it, MONAI's loss is 0 on a patch without foreground.
- Cross entropy includes every class, the background too.
- Class weights come from `pipeline.data.class_weights`, unless the user gives them.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.losses import (
    DiceCELoss,
    DiceFocalLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    HausdorffDTLoss,
    LogHausdorffDTLoss,
    MCCLoss,
    TverskyLoss,
)
from torch import nn

from pipeline.data.class_weights import DEFAULT_CAP, DEFAULT_POLICY, class_weights
from pipeline.errors import ConfigError
from pipeline.losses.distance import DiceAndBoundary
from pipeline.losses.loss_spec import LossSpec
from pipeline.losses.overlap import OVERLAP, FocalTversky, LogCoshDice, LovaszSoftmax, UnifiedFocal
from pipeline.losses.pointwise import CrossEntropy, TopKCrossEntropy
from pipeline.losses.progress import pass_progress
from pipeline.system.import_path import import_object

ClassVoxels = Sequence[int]
"""Voxels of each class in the training labels, background first."""


class SegmentationLoss(nn.Module):
    """A loss of logits (B, C, *S) and class indices (B, 1, *S), computed in float32 or better.

    Parameters
    ----------
    inner
        The loss itself, called with the same arguments. A result that is not a scalar is averaged. It may have a third
        argument, `known` (`pipeline.losses.known`).
    """

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.takes_known = "known" in inspect.signature(inner.forward).parameters

    def forward(self, logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scalar loss of logits (B, C, *S) and class indices (B, 1, *S).

        The mask `known` (B, 1, *S) is passed on to a loss that has such an argument; None stands for all voxels.
        """
        arguments = {}
        if self.takes_known:
            arguments["known"] = torch.ones_like(target, dtype=torch.bool) if known is None else known
        # Sums over millions of voxels lose most of their digits in bfloat16, which has 8 bits of precision.
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            value: torch.Tensor = self.inner(logits, target, **arguments).mean()
            return value

    def set_progress(self, fraction: float) -> None:
        """Pass the completed share of the training, 0 to 1, to a loss with a schedule."""
        pass_progress(self.inner, fraction)


class WeightedSum(nn.Module):
    """The sum of losses, each times its factor.

    Parameters
    ----------
    terms
        Pairs of factor and loss.
    """

    def __init__(self, *terms: tuple[float, nn.Module]) -> None:
        super().__init__()
        self.factors = [factor for factor, _ in terms]
        self.terms = nn.ModuleList(term for _, term in terms)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum, a scalar, of logits (B, C, *S) and class indices (B, 1, *S)."""
        return sum(
            (factor * term(logits, target) for factor, term in zip(self.factors, self.terms, strict=True)),
            logits.new_zeros(()),
        )


def _weighted_ce(
    voxels: ClassVoxels, policy: str = DEFAULT_POLICY, cap: float = DEFAULT_CAP, weights: Sequence[float] | None = None
) -> nn.Module:
    if weights is None:
        weights = class_weights(voxels, policy, cap).tolist()
    elif len(weights) != len(voxels) or min(weights) < 0 or max(weights) == 0:
        raise ValueError(
            f"weights must be {len(voxels)} numbers of at least 0, one per class with the background first, "
            "and not all 0"
        )
    return CrossEntropy(torch.as_tensor(np.asarray(weights, dtype=np.float32)))


def _dice_weighted_ce(
    voxels: ClassVoxels, lambda_dice: float = 1.0, lambda_ce: float = 1.0, **arguments: Any
) -> nn.Module:
    return WeightedSum((lambda_dice, DiceLoss(**OVERLAP)), (lambda_ce, _weighted_ce(voxels, **arguments)))


def _dice_topk(voxels: ClassVoxels, lambda_dice: float = 1.0, lambda_ce: float = 1.0, k: float = 0.1) -> nn.Module:
    return WeightedSum((lambda_dice, DiceLoss(**OVERLAP)), (lambda_ce, TopKCrossEntropy(k)))


def _dice_hausdorff(voxels: ClassVoxels, factor: float = 0.1, alpha: float = 2.0) -> nn.Module:
    return WeightedSum((1.0, DiceLoss(**OVERLAP)), (factor, LogHausdorffDTLoss(alpha=alpha, **OVERLAP)))


def _monai(loss_class: Callable[..., nn.Module], **defaults: Any) -> Callable[..., nn.Module]:
    """Return a builder of one of MONAI's losses; the user's arguments override the defaults."""
    return lambda voxels, **arguments: loss_class(**(defaults | arguments))


def _own(loss_class: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Return a builder of one of this package's losses that needs no class voxels."""
    return lambda voxels, **arguments: loss_class(**arguments)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "ce": _own(CrossEntropy),
    "weighted_ce": _weighted_ce,
    "dice": _monai(DiceLoss, **OVERLAP),
    "dice_squared": _monai(DiceLoss, **OVERLAP, squared_pred=True),
    "dice_ce": _monai(DiceCELoss, **OVERLAP),
    "dice_weighted_ce": _dice_weighted_ce,
    "jaccard": _monai(DiceLoss, **OVERLAP, jaccard=True),
    "generalized_dice": _monai(GeneralizedDiceLoss, include_background=True, to_onehot_y=True, softmax=True),
    "focal": _monai(FocalLoss, include_background=True, to_onehot_y=True, use_softmax=True, gamma=2.0),
    "dice_focal": _monai(DiceFocalLoss, **OVERLAP, gamma=2.0),
    "tversky": _monai(TverskyLoss, **OVERLAP, alpha=0.3, beta=0.7),
    "focal_tversky": _own(FocalTversky),
    "topk_ce": _own(TopKCrossEntropy),
    "dice_topk": _dice_topk,
    "log_cosh_dice": _own(LogCoshDice),
    "lovasz": _own(LovaszSoftmax),
    "hausdorff_dt": _monai(HausdorffDTLoss, **OVERLAP),
    "dice_hausdorff": _dice_hausdorff,
    "boundary": _own(DiceAndBoundary),
    "unified_focal": _own(UnifiedFocal),
    "mcc": _monai(MCCLoss, **OVERLAP),
}
"""Builders by name; each is called with the class voxels and the arguments of the loss."""


def build(spec: LossSpec, class_voxels: ClassVoxels) -> SegmentationLoss:
    """Return the loss that `spec` names; see `pipeline.losses.build_loss`.

    Raises
    ------
    ConfigError
        If the arguments do not fit or a custom class cannot be imported.
    """
    try:
        if spec.is_custom:
            return SegmentationLoss(import_object(spec.name, f"--losses {spec.text}")(**spec.arguments))
        return SegmentationLoss(BUILDERS[spec.name](class_voxels, **spec.arguments))
    except (TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"--losses {spec.text}", f"could not be built ({reason})", "check its arguments") from error
