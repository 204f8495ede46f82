"""`segloss losses`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

PICTURES = (".png", ".svg")


def losses(
    plot: Annotated[
        Path | None, typer.Option(help="Draw the gradients of ce, dice and dice_squared: FILE.png or FILE.svg.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """List the losses: formula, gradient, paper, and when to use which."""
    from pipeline.losses.catalogue import CATALOGUE

    if plot is not None and (plot.suffix.lower() not in PICTURES or plot.is_dir()):
        raise ConfigError(f"--plot {plot}", "is no picture's name", f"end it in {' or '.join(PICTURES)}")
    if plot is not None:
        from pipeline.losses.gradient_figure import draw_gradients

        draw_gradients(plot)
        err.print(f"Gradients: {plot}", highlight=False, markup=False)
    if json:
        print_json([asdict(entry) for entry in CATALOGUE.values()])
        return
    console.print(_table())
    console.print(
        "p: predicted probability of a class at a voxel, t: its truth, z: logit, w: class weight, Σ: over voxels.\n"
        "Arguments in braces, e.g. tversky{alpha=0.2,beta=0.8}; your own class by its path, my.module:MyLoss{gamma=2}.",
        highlight=False,
        markup=False,
    )


def _table() -> "Table":
    """Return two columns: a name, and under one another what there is to know, so that 80 columns are enough."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from pipeline.losses.catalogue import CATALOGUE

    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, show_lines=False)
    table.add_column("loss", style="bold", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("", overflow="fold")
    for entry in CATALOGUE.values():
        rows = (
            ("formula", entry.formula),
            ("gradient", entry.gradient),
            ("use", entry.advice),
            ("paper", entry.reference),
        )
        for place, (what, text) in enumerate(rows):
            style = {"formula": "cyan", "paper": "dim"}.get(what, "")
            table.add_row(
                entry.name if place == 0 else "",
                Text(what, "dim"),
                Text(text, style),
                end_section=place == len(rows) - 1,
            )
    return table
