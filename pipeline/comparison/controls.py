"""Controls: arms that repeat a loss with other random streams, to observe the difference that chance alone makes.

An arm whose name is that of another arm followed by ``-aa`` is a control. It is compared like any other arm, but is
never a candidate: a control that is ahead shows the amount of chance in the study, not a better loss.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import ControlGap

SUFFIX = "-aa"
"""Ending of the name of a control."""


def controls_of(losses: Collection[str], known: Iterable[str]) -> dict[str, str]:
    """Return the controls among `losses` with the loss that each repeats, which must be one of the `known` names.

    Examples
    --------
    >>> controls_of(["dice", "dice-aa", "mine-aa"], ["dice", "dice-aa", "mine-aa"])
    {'dice-aa': 'dice'}
    """
    names = set(known)
    return {
        name: name.removesuffix(SUFFIX)
        for name in losses
        if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names
    }


def gaps_of_controls(pairs: Sequence[PairResult], controls: Mapping[str, str]) -> list[ControlGap]:
    """Return for each metric and control the gap ``control - loss`` with its interval, in the metric's unit."""
    turned = [
        (pair.seen_from(control), loss)
        for pair in pairs
        for control, loss in controls.items()
        if pair.names == {control, loss}
    ]
    return [
        ControlGap(
            control=pair.a,
            loss=loss,
            metric=pair.metric,
            difference=pair.difference,
            ci_low=pair.ci_low,
            ci_high=pair.ci_high,
            p_wilcoxon=pair.p_wilcoxon,
            p_holm=pair.p_holm,
            clear=pair.better is not None,
            equivalent=pair.equivalent,
            noise_floor=pair.noise_floor,
        )
        for pair, loss in turned
    ]
