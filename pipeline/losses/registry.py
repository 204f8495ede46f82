"""Building a loss from its name and arguments.

Policies that all share: logits are computed on in float32 at least; probabilities come from a softmax over classes; the
overlap of Dice-type losses is taken per image over the foreground classes, while cross entropy sees every class,
background included (`generalized_dice` keeps it too: without, MONAI's gives 0 on a patch without foreground).
"""

import importlib
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
from pipeline.losses.overlap import FocalTversky, LogCoshDice, LovaszSoftmax, UnifiedFocal
from pipeline.losses.pointwise import CrossEntropy, TopKCrossEntropy

Voxels = Sequence[int]
OVERLAP: dict[str, Any] = {"include_background": False, "to_onehot_y": True, "softmax": True}


class SegmentationLoss(nn.Module):
    """A loss of logits (B, C, *S) and class indices (B, 1, *S), computed in float32 or better."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss."""
        with torch.autocast(logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            value: torch.Tensor = self.inner(logits, target).mean()
            return value

    def set_progress(self, fraction: float) -> None:
        """Tell a loss with a schedule which share of the training is done."""
        set_progress: Any = getattr(self.inner, "set_progress", None)
        if set_progress is not None:
            set_progress(fraction)


class Sum(nn.Module):
    """The sum of losses, each with its factor."""

    def __init__(self, *parts: tuple[float, nn.Module]) -> None:
        super().__init__()
        self.factors = [factor for factor, _ in parts]
        self.parts = nn.ModuleList(part for _, part in parts)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum."""
        return sum(
            (f * part(logits, target) for f, part in zip(self.factors, self.parts, strict=True)), logits.new_zeros(())
        )


def _weighted_ce(
    voxels: Voxels, policy: str = DEFAULT_POLICY, cap: float = DEFAULT_CAP, weights: Sequence[float] | None = None
) -> nn.Module:
    if weights is None:
        weights = class_weights(voxels, policy, cap).tolist()
    elif len(weights) != len(voxels) or min(weights) < 0 or max(weights) == 0:
        raise ValueError(f"weights needs {len(voxels)} numbers, one per class with the background first, not all zero")
    return CrossEntropy(torch.as_tensor(np.asarray(weights, dtype=np.float32)))


def _dice_weighted_ce(voxels: Voxels, lambda_dice: float = 1.0, lambda_ce: float = 1.0, **arguments: Any) -> nn.Module:
    return Sum((lambda_dice, DiceLoss(**OVERLAP)), (lambda_ce, _weighted_ce(voxels, **arguments)))


def _dice_topk(voxels: Voxels, lambda_dice: float = 1.0, lambda_ce: float = 1.0, k: float = 0.1) -> nn.Module:
    return Sum((lambda_dice, DiceLoss(**OVERLAP)), (lambda_ce, TopKCrossEntropy(k)))


def _dice_hausdorff(voxels: Voxels, factor: float = 0.1, alpha: float = 2.0) -> nn.Module:
    return Sum((1.0, DiceLoss(**OVERLAP)), (factor, LogHausdorffDTLoss(alpha=alpha, **OVERLAP)))


def _monai(kind: Callable[..., nn.Module], **fixed: Any) -> Callable[..., nn.Module]:
    return lambda voxels, **arguments: kind(**(fixed | arguments))


def _own(kind: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return lambda voxels, **arguments: kind(**arguments)


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


def build(spec: LossSpec, class_voxels: Voxels) -> SegmentationLoss:
    """Return the loss that `spec` names; see `pipeline.losses.build_loss`."""
    try:
        if spec.is_custom:
            return SegmentationLoss(_custom_class(spec)(**spec.arguments))
        return SegmentationLoss(BUILDERS[spec.name](class_voxels, **spec.arguments))
    except (TypeError, ValueError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigError(f"--losses {spec.spec}", f"cannot be built ({reason})", "check its arguments") from error


def _custom_class(spec: LossSpec) -> Callable[..., nn.Module]:
    module, _, name = spec.name.partition(":")
    try:
        found: Callable[..., nn.Module] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"--losses {spec.spec}", f"cannot be imported ({error})", "check the path, and PYTHONPATH"
        ) from error
    return found
