"""Arms that hold a loss a second time, with other random streams: what two studies of one loss differ by, observed.

An arm whose name is that of another with ``-aa`` behind it is such a control. It is compared like any other, and is
never a candidate: a control that is ahead says how much chance there is in the study, not that something is better.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

SUFFIX = "-aa"


def controls_of(losses: Collection[str], known: Iterable[str]) -> dict[str, str]:
    """Return the controls among `losses` with the loss that each repeats, which must be among the `known` ones."""
    names = set(known)
    return {
        name: name.removesuffix(SUFFIX)
        for name in losses
        if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names
    }


def gaps_of_controls(pairs: Sequence[Mapping[str, Any]], controls: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return for each metric and control the gap ``control - loss`` with its interval, from the entries of pairs."""
    found = []
    for entry in pairs:
        for control, loss in controls.items():
            if {entry["a"], entry["b"]} != {control, loss}:
                continue
            low, high, mean = entry["ci_low"], entry["ci_high"], entry["difference"]
            if entry["a"] == loss:
                low, high, mean = -high, -low, -mean
            found.append(
                {
                    "control": control,
                    "loss": loss,
                    "metric": entry["metric"],
                    "difference": mean,
                    "ci_low": low,
                    "ci_high": high,
                    "p_wilcoxon": entry["p_wilcoxon"],
                    "p_holm": entry["p_holm"],
                    "clear": entry["better"] is not None,
                    "equivalent": entry["equivalent"],
                    "noise_floor": entry["noise_floor"],
                }
            )
    return found
