"""Arms, folds and cases of results of another trainer, as a table for a terminal."""

from rich import box
from rich.markup import escape
from rich.table import Table

from pipeline.trainers.nnunet.records import Results


def results_table(results: Results) -> Table:
    """Return one row for each arm and seed: its folds, cases, hours of training and folds that are left out."""
    table = Table(box=box.SIMPLE_HEAD, title="Trainings found", title_justify="left", pad_edge=False)
    for name in ("arm", "trainer", "seed", "folds", "cases", "hours", "left out"):
        table.add_column(name, justify="left" if name in ("arm", "trainer") else "right", overflow="fold")
    for label, seed in dict.fromkeys((result.arm.label, result.arm.seed) for result in results.folds):
        own = [result for result in results.folds if (result.arm.label, result.arm.seed) == (label, seed)]
        seconds = [result.seconds for result in own if result.seconds is not None]
        gaps = [str(gap.fold) for gap in results.gaps if gap.arm == label]
        table.add_row(
            escape(label),
            escape(own[0].arm.trainer),
            str(seed),
            ", ".join(str(result.fold) for result in own),
            str(len({case for result in own for case in result.cases})),
            f"{sum(seconds) / 3600:.1f}" if len(seconds) == len(own) else "-",
            ", ".join(gaps) or "-",
        )
    return table
