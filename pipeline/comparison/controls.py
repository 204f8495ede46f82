"""Arms that hold a loss a second time, with other random streams: what two studies of one loss differ by, observed.

An arm whose name is that of another with ``-aa`` behind it is such a control. It is compared like any other, and is
never a candidate: a control that is ahead says how much chance there is in the study, not that something is better.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from pipeline.records.pair_result import PairResult
from pipeline.records.verdict import ControlGap

SUFFIX = "-aa"


def controls_of(losses: Collection[str], known: Iterable[str]) -> dict[str, str]:
    """Return the controls among `losses` with the loss that each repeats, which must be among the `known` ones."""
    names = set(known)
    return {
        name: name.removesuffix(SUFFIX)
        for name in losses
        if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names
    }


def gaps_of_controls(pairs: Sequence[PairResult], controls: Mapping[str, str]) -> list[ControlGap]:
    """Return for each metric and control the gap ``control - loss`` with its interval, from the entries of pairs."""
    return [
        ControlGap(
            control=control,
            loss=loss,
            metric=pair.metric,
            difference=pair.seen_from(control).difference,
            ci_low=pair.seen_from(control).ci_low,
            ci_high=pair.seen_from(control).ci_high,
            p_wilcoxon=pair.p_wilcoxon,
            p_holm=pair.p_holm,
            clear=pair.better is not None,
            equivalent=pair.equivalent,
            noise_floor=pair.noise_floor,
        )
        for pair in pairs
        for control, loss in controls.items()
        if pair.names == {control, loss}
    ]
