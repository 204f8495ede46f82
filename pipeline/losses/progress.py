"""Losses that change during a training."""


def pass_progress(loss: object, fraction: float) -> None:
    """Pass the completed share of a training, 0 to 1, to a loss with a schedule; others have no `set_progress`.

    Examples
    --------
    >>> from pipeline.losses.progress import pass_progress
    >>> pass_progress(object(), 0.5)
    """
    set_progress = getattr(loss, "set_progress", None)
    if callable(set_progress):
        set_progress(fraction)
