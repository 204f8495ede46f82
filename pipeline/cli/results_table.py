"""Arms, folds and cases of trainings that are compared, as a table for a terminal."""

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.trainers.trainings import NNUNET, Results, Source, Training

COLUMNS = ("arm", "trainer", "seed", "folds", "cases", "hours", "left out")
_TEXT = ("arm", "trainer")


def results_table(results: Results) -> Table:
    """Return one row for each arm and seed: its folds, cases, hours of training and folds that are left out."""
    table = Table(box=box.SIMPLE_HEAD, title="Trainings found", title_justify="left", pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in _TEXT else "right", overflow="fold")
    for source in results.sources:
        names = {arm.label: arm.name for arm in source.arms}
        for place in dict.fromkeys((training.key.loss, training.key.seed) for training in source.trainings):
            own = [training for training in source.trainings if (training.key.loss, training.key.seed) == place]
            table.add_row(*_cells(source, names.get(place[0], ""), own))
    return table


def sources_in_words(results: Results) -> list[str]:
    """Return for each source where its scores come from."""
    return [f"scores of {source.name}: {source.measured}" for source in results.sources]


def _cells(source: Source, name: str, own: Sequence[Training]) -> list[str]:
    """Return the row of the trainings of one arm and seed."""
    key = own[0].key
    seconds = [training.seconds for training in own if training.seconds is not None]
    unusable = [gap.key for gap in source.gaps if gap.key is not None]
    gaps = [str(other.fold) for other in unusable if (other.loss, other.seed) == (key.loss, key.seed)]
    return [
        escape(key.loss),
        escape(name if source.name == NNUNET else source.trainer),
        str(key.seed),
        ", ".join(str(training.key.fold) for training in own),
        str(len({case for training in own for case in training.cases})),
        f"{sum(seconds) / 3600:.1f}" if len(seconds) == len(own) else "-",
        ", ".join(gaps) or "-",
    ]
