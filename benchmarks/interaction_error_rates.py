"""Count errors and power of the interaction test over simulated studies of losses under two recipes.

    python benchmarks/interaction_error_rates.py [--studies 1000]

Each row is one design. Without an interaction, *a pair differs* and *verdict differs* are errors and must stay below
5 %. With one they are the power. *pair holds* is an error where the first pair in truth has no common winner and is not
equivalent under both recipes; those rows are marked. The columns of the verdict do not add up to 100 %: the rest is
*cannot tell*.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "comparison"))

from simulated_recipes import Counts, Design, count

HEADINGS = (
    "design",
    "seeds",
    "a pair differs",
    "first pair holds",
    "verdict holds",
    "verdict differs",
    "coverage",
    "detectable (points)",
)


def designs() -> Iterator[tuple[str, Design]]:
    """Yield designs with their names; effects are in Dice."""
    equal, gap, four = (0.0, 0.0), (0.0, -0.02), (0.0, -0.003, -0.01, -0.04)
    for seeds in (1, 2):
        yield "no effects", Design(equal, equal, seeds=seeds)
        yield "recipe effect 5 points", Design(equal, equal, -0.05, seeds=seeds)
        yield "both main effects", Design(gap, gap, -0.05, seeds=seeds)
        yield "both, trainings of B 3 times noisier", Design(gap, gap, -0.05, seeds=seeds, noisier=3.0)
        yield "both, quiet trainings", Design(gap, gap, -0.05, seeds=seeds, run_noise=0.001)
        yield "both, 4 losses", Design(four, four, -0.05, seeds=seeds)
        yield "both, 4 losses, B 3 times noisier", Design(four, four, -0.05, seeds=seeds, noisier=3.0)
        for points in (1, 2, 4):
            yield (
                f"interaction {points}, order reverses *",
                Design((points / 200, 0.0), (-points / 200, 0.0), -0.05, seeds=seeds),
            )
        yield "interaction 2, only under A *", Design((0.02, 0.0), equal, -0.05, seeds=seeds)
        yield "interaction 2, size only", Design((0.04, 0.0), (0.02, 0.0), -0.05, seeds=seeds)
        yield (
            "4 losses, best reverses by 2 *",
            Design((0.01, -0.01, -0.02, -0.04), (-0.01, 0.01, -0.02, -0.04), -0.05, seeds=seeds),
        )


def row(name: str, design: Design, counts: Counts) -> list[str]:
    """Return the cells of one design."""
    shares = (counts.differs, counts.holds, counts.verdict["holds"], counts.verdict["differs"], counts.covered)
    return [name, str(design.seeds), *(f"{100 * share:.1f} %" for share in shares), f"{100 * counts.predicted:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="Simulated studies of each design.")
    studies = parser.parse_args().studies
    print(f"{studies} studies of each design: 100 cases, 5 folds, noise of a training 0.5 points of Dice\n")
    print("| " + " | ".join(HEADINGS) + " |\n|---|" + "---:|" * (len(HEADINGS) - 1))
    for name, design in designs():
        print("| " + " | ".join(row(name, design, count(design, studies))) + " |", flush=True)


if __name__ == "__main__":
    main()
