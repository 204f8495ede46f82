"""`--race`: the losses that the results so far exclude from winning."""

from collections.abc import Sequence

import pandas as pd

from pipeline.comparison.racing import FEWEST_BLOCKS, Block, losses_to_drop
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.study import read_study, write_study
from pipeline.study.progress import Progress


def dropped_losses(table: pd.DataFrame, arms: Sequence[str], planned_blocks: Sequence[Block]) -> dict[str, str]:
    """Return the losses that the race drops, each with the reason as text.

    All looks are repeated in the order of the plan, each at the results of its own blocks alone. The answer therefore
    depends neither on the order in which runs finished nor on stops between them.

    Parameters
    ----------
    table
        Long table of all finished runs, as `pipeline.records.gather.gather_cases` returns it.
    arms
        Labels of all arms that began, controls among them.
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
    """The losses that are dropped so far; the record of the study holds them for the report."""

    def __init__(self, study: StudyFolder, progress: Progress) -> None:
        self.study, self.progress = study, progress
        self.dropped = read_study(study).dropped
        self.update()

    def includes(self, key: RunKey) -> bool:
        """Return whether the loss of a run is still in the race."""
        return key.loss not in self.dropped

    def update(self) -> None:
        """Drop the losses that are clearly behind by now, and write them to the record of the study."""
        record = read_study(self.study)
        table = gather_cases(self.study)
        if table.empty:
            return
        blocks = list(dict.fromkeys((run.fold, run.seed) for run in record.runs))
        dropped = dropped_losses(table, record.labels, blocks)
        for loss in dropped.keys() - self.dropped.keys():
            self.progress.message(f"{loss} is dropped: {dropped[loss]}")
        if dropped != self.dropped:
            self.dropped = dropped
            write_study(self.study, record.model_copy(update={"dropped": dropped}))
