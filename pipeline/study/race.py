"""`--race`: which losses of a study are out, from the table so far."""

from collections.abc import Sequence

import pandas as pd

from pipeline.comparison.racing import FEWEST_BLOCKS, Block, losses_to_drop
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.study.progress import Watcher
from pipeline.system.files import write_json


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
        dropped |= losses_to_drop(table[first | ~table["loss"].isin(list(dropped))], planned_blocks, blocks)
    return dropped


class Race:
    """The losses that are out, kept in the study's settings for the report."""

    def __init__(self, study: StudyFolder, watcher: Watcher) -> None:
        self.study, self.watcher = study, watcher
        self.dropped: dict[str, str] = study.read_settings().get("dropped", {})
        self.look()

    def keeps(self, key: RunKey) -> bool:
        """Whether a run's loss is still in the race."""
        return key.loss not in self.dropped

    def look(self) -> None:
        """Drop what is clearly behind by now."""
        settings = self.study.read_settings()
        table = gather_cases(self.study)
        if table.empty:
            return
        blocks = list(dict.fromkeys((entry["fold"], entry["seed"]) for entry in settings["runs"]))
        dropped = dropped_losses(table, [entry["label"] for entry in settings["losses"]], blocks)
        for loss in dropped.keys() - self.dropped.keys():
            self.watcher.say(f"{loss} is out: {dropped[loss]}")
        if dropped != self.dropped:
            self.dropped = dropped
            write_json(self.study.settings, settings | {"dropped": dropped})
