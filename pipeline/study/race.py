"""`--race`: which losses of a study are out, from the table so far."""

from collections.abc import Sequence

import pandas as pd

from pipeline.comparison.racing import FEWEST_BLOCKS, Block, drop


def dropped_losses(table: pd.DataFrame, arms: Sequence[str], planned_blocks: Sequence[Block]) -> dict[str, str]:
    """Return the losses that the race has dropped, each with the reason in words.

    All looks are taken again, in the order of the plan, each at the results of its own blocks alone. So the answer does
    not depend on the order in which runs finished, nor on stops between them.

    Parameters
    ----------
    table
        The long table of all finished runs.
    arms
        Every loss that began, controls among them.
    planned_blocks
        (fold, seed) of the whole study, in the order of the plan.
    """
    done = set(table[["loss", "fold", "seed"]].drop_duplicates().itertuples(index=False, name=None))
    dropped: dict[str, str] = {}
    for look in range(FEWEST_BLOCKS, len(planned_blocks)):
        blocks = list(planned_blocks[:look])
        if any((arm, *block) not in done for arm in arms if arm not in dropped for block in blocks):
            break
        first = (table["fold"] == blocks[0][0]) & (table["seed"] == blocks[0][1])
        dropped |= drop(table[first | ~table["loss"].isin(list(dropped))], planned_blocks, blocks)
    return dropped
