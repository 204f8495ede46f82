"""The command `whichloss losses`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

FIGURE_SUFFIXES = (".png", ".svg")


def losses(
    plot: Annotated[
        Path | None, typer.Option(help="Draw the gradients of ce, dice and dice_squared to FILE.png or FILE.svg.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """List the losses with formula, gradient, paper and advice."""
    from pipeline.losses.catalogue import CATALOGUE

    if plot is not None and (plot.suffix.lower() not in FIGURE_SUFFIXES or plot.is_dir()):
        raise ConfigError(
            f"--plot {plot}", f"must be a file that ends in {' or '.join(FIGURE_SUFFIXES)}", "give e.g. gradients.svg"
        )
    if plot is not None:
        from pipeline.losses.gradient_figure import draw_gradients

        draw_gradients(plot)
        err.print(f"Gradients: {plot}", highlight=False, markup=False)
    if json:
        print_json([asdict(entry) for entry in CATALOGUE.values()])
        return
    console.print(_table())
    console.print(
        "p: predicted probability of a class at a voxel, t: its truth (0 or 1), z: logit, w: class weight, Σ: sum over "
        "voxels.\n"
        "Write arguments in braces, e.g. tversky{alpha=0.2,beta=0.8}, and your own class by its import path, e.g. "
        "my.module:MyLoss{gamma=2}.",
        highlight=False,
        markup=False,
    )


def _table() -> "Table":
    """Return a table with one block per loss; its rows are below each other, so that 80 columns suffice."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pipeline.losses.catalogue import CATALOGUE

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, show_lines=False)
    table.add_column("loss", style="bold", no_wrap=True)
    table.add_column("field", overflow="fold")
    table.add_column("text", overflow="fold")
    for entry in CATALOGUE.values():
        rows = (
            ("formula", entry.formula),
            ("gradient", entry.gradient),
            ("use", entry.advice),
            ("paper", entry.reference),
        )
        for index, (field, text) in enumerate(rows):
            style = {"formula": "cyan", "paper": "dim"}.get(field, "")
            table.add_row(
                entry.name if index == 0 else "",
                Text(field, "dim"),
                Text(text, style),
                end_section=index == len(rows) - 1,
            )
    return table
