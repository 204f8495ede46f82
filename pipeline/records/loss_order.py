"""Order of the losses by simplicity; plain cross entropy comes first.

Among equivalent losses the simplest known one is recommended.
"""

SIMPLICITY = (
    "ce",
    "weighted_ce",
    "dice",
    "dice_squared",
    "jaccard",
    "generalized_dice",
    "dice_ce",
    "dice_weighted_ce",
    "focal",
    "topk_ce",
    "tversky",
    "log_cosh_dice",
    "mcc",
    "dice_focal",
    "dice_topk",
    "focal_tversky",
    "lovasz",
    "unified_focal",
    "hausdorff_dt",
    "dice_hausdorff",
    "boundary",
)


def is_known(loss: str) -> bool:
    """Return True if the loss has a place in the order, so that it can be called simple."""
    return loss.split("-", 1)[0] in SIMPLICITY


def simplicity(loss: str) -> tuple[int, str]:
    """Return a sort key of a loss's display name: simpler first, losses of other origin last."""
    name = loss.split("-", 1)[0]
    return (SIMPLICITY.index(name) if name in SIMPLICITY else len(SIMPLICITY), loss)
