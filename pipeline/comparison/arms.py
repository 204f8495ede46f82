"""Select the losses of a table that are compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pipeline.comparison.controls import controls_of
from pipeline.comparison.long_table import comparable_losses


@dataclass(frozen=True, slots=True)
class Arms:
    """Losses of a table.

    Attributes
    ----------
    names
        Losses that are compared, including controls.
    controls
        Controls among them, with the loss that each repeats.
    set_aside
        Losses that are not compared, with the reason.
    dropped
        Losses that a race has dropped, with the reason.
    """

    names: list[str]
    controls: dict[str, str]
    set_aside: dict[str, str]
    dropped: dict[str, str]

    @property
    def candidates(self) -> list[str]:
        """Losses that may be recommended: all that are compared except controls."""
        return [name for name in self.names if name not in self.controls]


def arms_of(rows: pd.DataFrame, collapsed: Mapping[str, int], dropped: Mapping[str, str]) -> Arms:
    """Return the losses that are compared and those that are not.

    A control is compared only together with the loss that it repeats.

    Parameters
    ----------
    rows
        From `pipeline.comparison.long_table.usable_rows`.
    collapsed
        Number of collapsed runs of each loss.
    dropped
        Losses that a race has dropped, with the reason.
    """
    names, set_aside = comparable_losses(rows[~rows["loss"].isin(list(dropped))], collapsed)
    known = {*rows["loss"], *collapsed}
    dropped_here = {name: why for name, why in dropped.items() if name in known}
    set_aside = {name: why for name, why in set_aside.items() if name not in dropped}
    set_aside |= {name: f"dropped by the race, {why}" for name, why in dropped_here.items()}
    controls = controls_of(names, known)
    alone = {name: f"it repeats {loss}, which is not compared" for name, loss in controls.items() if loss not in names}
    return Arms(
        names=[name for name in names if name not in alone],
        controls={name: loss for name, loss in controls.items() if name not in alone},
        set_aside=set_aside | alone,
        dropped=dropped_here,
    )
