"""Time of a study of three losses on five folds, compared with as many plain loops with the same losses.

    python benchmarks/study_cost.py ../shared/data/hippocampus --loop ../shared/baselines/monai_loop.py [--json FILE]

The study is a new `whichloss study` without any cache, in elapsed time: checking, preparing, timing the machine, the
learning-rate search, training, all out-of-fold metrics and their files. The loop runs once for each loss, until its
Dice on the last 40 cases reaches that of the study with the same loss on the same cases (out of fold, so that its
networks were trained on 160 other cases as well). Its time is multiplied by the number of folds. A loop that does not
reach that Dice is stopped after `--patience` minutes and counts as that long.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from training import TRAINING_CASES, device, gpu_name, loop, names_of, reached, row

LOSSES = ("dice", "dice_ce", "weighted_ce")
FOLDS = 5


def main() -> None:
    """Run the study, then the loops, and print both times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="the hippocampus of the Decathlon")
    parser.add_argument("--loop", type=Path, required=True, help="monai_loop.py")
    parser.add_argument("--budget", default="300steps", help="training budget per run of the study")
    parser.add_argument("--patience", type=float, default=15, help="longest time of a loop, in minutes")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds = study_seconds(arguments.dataset, arguments.budget, Path(folder) / "study")
        dice = out_of_fold(Path(folder) / "study" / "cases.csv", names_of(arguments.dataset)[TRAINING_CASES:])
    print(f"study: {seconds:.0f} s, {dice}", file=sys.stderr, flush=True)
    curves = {loss: loop(arguments, target, arguments.patience, loss) for loss, target in dice.items()}
    fifteen = FOLDS * sum(curve[-1]["seconds"] for curve in curves.values())
    missed = [loss for loss, curve in curves.items() if reached(curve, dice[loss]) is None]
    runs = len(LOSSES) * FOLDS
    what = f"seconds of a study of {runs} runs, {runs} loops to its Dice with each loss"
    if missed:
        what += f" ({', '.join(missed)}: not reached in {arguments.patience:g} minutes)"
    if device().type == "cuda":
        what += f", {gpu_name()}"
    found = row(what, seconds, fifteen, 5)
    print(f"{found['what']}: {found['segloss']}, {found['other']}, {found['ratio']}")
    if arguments.json:
        measured = {"budget": arguments.budget, "dice": dice, "loops": curves}
        arguments.json.write_text(json.dumps({"rows": [found], "measured": measured}, indent=1) + "\n", "utf-8")


def out_of_fold(table: Path, cases: Sequence[str]) -> dict[str, float]:
    """Return the mean Dice of each loss on these cases: the mean over classes of the means over cases."""
    found = pd.read_csv(table).query("metric == 'dice' and case in @cases")
    if found["case"].nunique() != len(cases):
        number = found["case"].nunique()
        raise SystemExit(
            f"{table}: has {number} of the {len(cases)} cases that the loop validates on; use the same data"
        )
    means = found.groupby(["loss", "class"])["value"].mean().groupby("loss").mean()
    return {loss: float(means[loss]) for loss in LOSSES}


def study_seconds(dataset: Path, budget: str, out: Path) -> float:
    """Return the elapsed time of a new study, from the start of its command to its end, in seconds."""
    command = [sys.executable, "-m", "pipeline", "study", str(dataset), "--losses", ",".join(LOSSES)]
    command += ["--folds", str(FOLDS), "--budget", budget, "--out", str(out), "--cache", str(out.parent / "cache")]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
