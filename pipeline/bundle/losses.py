"""The losses of a study that MONAI alone can express, as configurations."""

from collections.abc import Mapping, Sequence

from pipeline.bundle.template import Config, fill_template

LOSSES: dict[str, Config] = fill_template("losses")
"""The default configuration of each loss, by its name in `pipeline.losses.catalogue`."""

FALLBACK = "dice_ce"
"""The loss that ``train.json`` trains with if MONAI lacks the loss of the study."""

ARGUMENTS = frozenset({"alpha", "beta", "gamma", "lambda_dice", "lambda_ce", "lambda_focal", "smooth_nr", "smooth_dr"})
"""Arguments that mean the same in a study and in MONAI."""


def is_weighted(loss: str) -> bool:
    """Return whether a loss has class weights.

    Examples
    --------
    >>> is_weighted("dice_weighted_ce"), is_weighted("dice_ce")
    (True, False)
    """
    return "weighted" in loss


def loss_settings(
    loss: str, class_weights: Sequence[float] | str, arguments: Mapping[str, object] | None = None
) -> Config:
    """Return the entries of a training configuration that concern its loss.

    Parameters
    ----------
    loss
        A key of `LOSSES`.
    class_weights
        Weight of each class, background first, or an expression for them; used by weighted losses only.
    arguments
        Values that replace the defaults; names that are not in `ARGUMENTS` are ignored.

    Examples
    --------
    >>> settings = loss_settings("tversky", [], {"alpha": 0.4, "policy": "inverse"})
    >>> settings["loss_name"], settings["loss"]["alpha"], settings["loss"]["beta"]
    ('tversky', 0.4, 0.7)
    """
    weights = {"class_weights": class_weights} if is_weighted(loss) else {}
    changes = {name: value for name, value in (arguments or {}).items() if name in ARGUMENTS}
    return {"loss_name": loss, **weights, "loss": LOSSES[loss] | changes}
