"""Dice of each loss on phantoms of 0.1 % foreground, by training budget and learning rate.

    python benchmarks/budget_and_rate.py measure --work FOLDER
    python benchmarks/budget_and_rate.py report [--figure FILE.svg]

`measure` runs one `segloss sweep` for each budget and rate, and writes its means to the table. A folder that holds a
sweep already is continued, so that the command can be repeated after a stop. `report` prints the table and draws it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from pipeline.report.styles import LossStyle
from pipeline.report.svg import WIDTH, Scale, element, fragment, standalone_figure, text, x_axis, y_axis
from pipeline.system.files import write_text

RESULTS = Path(__file__).resolve().parent / "results" / "budget_and_rate.csv"
LOSSES = "ce,dice,dice_ce"
STEPS = (200, 800)
RATES = (0.003, 0.008, 0.024)
SWEEP = ("--losses", LOSSES, "--fractions", "0.001", "--seeds", "1", "--folds", "2", "--jobs", "1", "--json")
COLUMNS = ["steps", "rate", "loss", "runs", "collapsed", "cases", "mean", "low", "high"]


def measure(work: Path) -> None:
    """Run the sweeps, and write the mean Dice of each loss with its interval to the table."""
    rows = []
    for steps in STEPS:
        for rate in RATES:
            options = (
                "--learning-rates",
                f"{rate:g}",
                "--budget",
                f"{steps}steps",
                "--out",
                work / f"{steps}_{rate:g}",
            )
            command = [sys.executable, "-m", "pipeline", "sweep", *SWEEP, *options]
            # Exit code 1 means that some trainings collapsed, which is a result.
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode not in (0, 1):
                sys.exit(done.returncode)
            points = json.loads(done.stdout)["points"]
            rows += [point | {"steps": steps, "rate": rate} for point in points if point["metric"] == "dice"]
            pd.DataFrame(rows)[COLUMNS].to_csv(RESULTS, index=False, float_format="%.4f")


def report(figure: Path | None) -> None:
    """Print mean Dice by budget, loss and rate, with the number of collapsed trainings, and draw it."""
    table = pd.read_csv(RESULTS)
    print("Mean Dice on phantoms of 0.1 % foreground (collapsed trainings count as 0; their number in brackets)")
    print(f"{'steps':>6}  {'loss':10}" + "".join(f"{rate:>14g}" for rate in RATES))
    for (steps, loss), rows in table.groupby(["steps", "loss"]):
        by_rate = rows.set_index("rate")
        cells = [
            f"{by_rate['mean'][rate]:.2f} ({by_rate['collapsed'][rate]} of {by_rate['runs'][rate]})" for rate in RATES
        ]
        print(f"{steps:6}  {loss:10}" + "".join(f"{cell:>14}" for cell in cells))
    if figure is not None:
        write_text(figure, drawn(table))


def drawn(table: pd.DataFrame) -> str:
    """Return one panel for each budget: Dice over the learning rate."""
    panels, names = [], LOSSES.split(",")
    across, up = Scale(0.0025, 0.03, 46, WIDTH - 12, logarithmic=True), Scale(0, 1, 232, 10)
    for place, steps in enumerate(STEPS):
        title = text(46, -8, f"Dice after {steps} steps", class_="title")
        parts = [x_axis(across, 10, 232, "learning rate"), y_axis(up, 46, WIDTH - 12), title]
        for index, name in enumerate(names):
            style = LossStyle(index)
            rows = table[(table["steps"] == steps) & (table["loss"] == name)].sort_values("rate")
            points = [(across(rate), up(mean)) for rate, mean in zip(rows["rate"], rows["mean"], strict=True)]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(
                element(
                    "polyline",
                    points=path,
                    fill="none",
                    stroke=style.color,
                    stroke_width=2.0,
                    stroke_dasharray=style.dash,
                )
            )
            parts += [element("circle", cx=x, cy=y, r=3.5, fill=style.color) for x, y in points]
            if place == 0:
                parts.append(element("circle", cx=56.0 + 90 * index, cy=288.0, r=4.0, fill=style.color))
                parts.append(text(66 + 90 * index, 292, name))
        panels.append(element("g", fragment(parts), transform=f"translate({place * WIDTH} 24)"))
    label = "Mean Dice of each loss over the learning rate, after 200 and after 800 steps"
    return standalone_figure(2 * WIDTH, 326, label, *panels)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure").add_argument("--work", type=Path, required=True, help="folder of the sweeps")
    commands.add_parser("report").add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure(arguments.work)
    else:
        report(arguments.figure)


if __name__ == "__main__":
    main()
