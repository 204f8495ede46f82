"""Which of several equivalent losses is the simplest; plain cross entropy comes first."""

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


def simplicity(loss: str) -> tuple[int, str]:
    """Return a sort key of a loss's display name: simpler first, losses of other origin last."""
    name = loss.split("-", 1)[0]
    return (SIMPLICITY.index(name) if name in SIMPLICITY else len(SIMPLICITY), loss)
