"""The losses of a study that MONAI alone can express, as configurations."""

from typing import Any

Config = dict[str, Any]

_OVERLAP: Config = {"include_background": False, "to_onehot_y": True, "softmax": True}
_CE: Config = {"_target_": "DiceCELoss", "to_onehot_y": True, "softmax": True, "lambda_dice": 0.0}

LOSSES: dict[str, Config] = {
    "ce": _CE,
    "weighted_ce": _CE | {"weight": "$torch.tensor(@class_weights, device=@device)"},
    "dice": {"_target_": "DiceLoss", **_OVERLAP},
    "dice_squared": {"_target_": "DiceLoss", **_OVERLAP, "squared_pred": True},
    "dice_ce": {"_target_": "DiceCELoss", **_OVERLAP},
    "dice_weighted_ce": {
        "_target_": "DiceCELoss",
        **_OVERLAP,
        "weight": "$torch.tensor(@class_weights, device=@device)",
    },
    "jaccard": {"_target_": "DiceLoss", **_OVERLAP, "jaccard": True},
    "generalized_dice": {
        "_target_": "GeneralizedDiceLoss",
        "include_background": True,
        "to_onehot_y": True,
        "softmax": True,
    },
    "focal": {
        "_target_": "FocalLoss",
        "include_background": True,
        "to_onehot_y": True,
        "use_softmax": True,
        "gamma": 2.0,
    },
    "dice_focal": {"_target_": "DiceFocalLoss", **_OVERLAP, "gamma": 2.0},
    "tversky": {"_target_": "TverskyLoss", **_OVERLAP, "alpha": 0.3, "beta": 0.7},
    "hausdorff_dt": {"_target_": "HausdorffDTLoss", **_OVERLAP},
    "mcc": {"_target_": "MCCLoss", **_OVERLAP},
}
"""As in `pipeline.losses.registry`. `dice_weighted_ce` differs: MONAI's weights scale its Dice term too."""

ARGUMENTS = frozenset({"alpha", "beta", "gamma", "lambda_dice", "lambda_ce", "lambda_focal", "smooth_nr", "smooth_dr"})


def loss_config(loss: str, arguments: Config) -> Config:
    """Return the configuration of a loss; arguments that MONAI takes alike replace the defaults."""
    return LOSSES[loss] | {name: value for name, value in arguments.items() if name in ARGUMENTS}
