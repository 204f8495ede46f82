"""Draw Dice on phantoms of 0.1 % foreground over the learning rate, for each loss.

    python benchmarks/dice_by_rate.py FILE.svg

The values are those of the full trainings in results/learning_rate_regret.csv, which `learning_rate_regret.py` measures
and prints. Dots are trainings, lines are means.
"""

import argparse
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from pipeline.report.styles import LossStyle
from pipeline.report.svg import WIDTH, Scale, element, fragment, standalone_figure, text, x_axis, y_axis
from pipeline.system.files import write_text

RESULTS = Path(__file__).parent / "results" / "learning_rate_regret.csv"
LOSSES = ("ce", "dice_ce", "dice")
TITLES = {"ce": "cross entropy", "dice_ce": "Dice + cross entropy", "dice": "Dice"}
LEFT, TOP, BOTTOM = 46.0, 10.0, 232.0


def main() -> None:
    """Read the table and write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figure", type=Path)
    arguments = parser.parse_args()
    table = pd.read_csv(RESULTS)
    table = table[(table["dataset"] == "phantoms of 0.1 %") & (table["kind"] == "full")]
    panels = [panel(table[table["loss"] == loss], loss, place) for place, loss in enumerate(LOSSES)]
    label = "Dice after 200 steps over the learning rate: cross entropy, Dice + cross entropy, Dice"
    write_text(arguments.figure, standalone_figure(len(LOSSES) * WIDTH, 290, label, *panels))


def panel(rows: pd.DataFrame, loss: str, place: int) -> Markup:
    """Return the panel of one loss; a training without any Dice found nothing, which counts as 0."""
    rows = rows.assign(dice=rows["dice"].fillna(0.0))
    across = Scale(0.0025, 0.09, LEFT, WIDTH - 12, logarithmic=True)
    up = Scale(0, 1, BOTTOM, TOP)
    color = LossStyle(place).color
    means = rows.groupby("rate")["dice"].mean()
    line = " ".join(f"{across(rate):.1f},{up(dice):.1f}" for rate, dice in means.items())
    dots = [
        element("circle", cx=across(rate), cy=up(dice), r=3.5, fill=color, fill_opacity=0.6)
        for rate, dice in zip(rows["rate"], rows["dice"], strict=True)
    ]
    return element(
        "g",
        x_axis(across, TOP, BOTTOM, "learning rate"),
        y_axis(up, LEFT, WIDTH - 12),
        text(LEFT, -6, f"trained with {TITLES[loss]}"),
        element("polyline", points=line, fill="none", stroke=color, stroke_width=2.0),
        fragment(dots),
        transform=f"translate({place * WIDTH} 24)",
    )


if __name__ == "__main__":
    main()
