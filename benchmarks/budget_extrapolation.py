"""Count the courses of pairs over budgets, and how often the extrapolated interval holds the truth.

    python benchmarks/budget_extrapolation.py [--studies 2000] [--jobs 2]

Each row is one design with a known curve of the lead of the first loss. *reached* is the true budget from which the
lead is within the margin, as a multiple of the largest budget. *stated* is the share of studies with an interval for
it: those in which one loss is clearly better at the largest budget, beyond the margin, and the fall of its lead does
not accelerate. *held* is the share of these intervals that hold the truth; the others lie *above* or *below* it, or
name the wrong loss. *closed* is the share with an upper end within ten times the largest budget. The other columns are
the shares of the courses. A curve with a star is none that is extrapolated, and does not count in the last lines.
"""

import argparse
import sys
from multiprocessing import Pool
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "comparison"))

from simulated_budgets import Counts, Design, count, designs

COURSES = ("closing", "settled", "crossing", "within_margin", "cannot_tell")
HEADINGS = ("curve", "seeds", "losses", "reached", "stated", "held", "above", "below", "closed", *COURSES)


def one(job: tuple[str, int, int, int]) -> tuple[str, str, int, int]:
    """Return the row of one design, the line that counts it, and its numbers of stated and held intervals."""
    name, seeds, losses, studies = job
    design = Design(dict(designs())[name], seeds=seeds, losses=losses)
    counts = count(design, studies)
    multiple = design.reached / design.steps[-1]
    reached = "never" if multiple > 1e4 else f"{multiple:.1f}"
    group = (
        "" if name.endswith("*") else f"{seeds} seed(s), reached {'within' if multiple <= 10 else 'beyond'} ten times"
    )
    return row([name, str(seeds), str(losses), reached], counts), group, counts.stated, counts.held


def row(cells: list[str], counts: Counts) -> str:
    """Return the row of a table."""
    of_stated = (counts.held, counts.too_late, counts.too_early, counts.closed)
    shares = [counts.stated / counts.studies, *(part / max(counts.stated, 1) for part in of_stated)]
    shares += [counts.courses.get(course, 0) / counts.studies for course in COURSES]
    return "| " + " | ".join([*cells, *(f"{100 * share:.1f} %" for share in shares)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="Simulated studies of each design.")
    parser.add_argument("--jobs", type=int, default=1, help="Processes.")
    options = parser.parse_args()
    names = [name for name, _ in designs()]
    plans = [(1, 2, names), (3, 2, names), (1, 5, [name for name in names if name.startswith("c")])]
    jobs = [(name, seeds, losses, options.studies) for seeds, losses, every in plans for name in every]
    print(f"{options.studies} studies of each design: 200 cases, 5 folds, budgets of 1/8, 1/4, 1/2 and 1\n")
    print("| " + " | ".join(HEADINGS) + " |\n|---|" + "---:|" * (len(HEADINGS) - 1))
    totals: dict[str, tuple[int, int]] = {}
    with Pool(options.jobs) as pool:
        for line, group, stated, held in pool.imap(one, jobs):
            print(line, flush=True)
            before = totals.get(group, (0, 0))
            totals[group] = before[0] + stated, before[1] + held
    print()
    for group, (stated, held) in totals.items():
        if group:
            print(f"{group}: {100 * held / max(stated, 1):.1f} % of {stated} intervals hold the truth")


if __name__ == "__main__":
    main()
