"""One training against the loop that a user would write from MONAI's tutorials.

    python benchmarks/training.py ../shared/data/hippocampus --loop ../shared/baselines/monai_loop.py

The loop trains on the first 160 cases of ``dataset.json`` and validates on the other 40 every two epochs. Ours trains
and validates on the same cases with a budget of steps for each target, as a user would give one (``--budget``), at one
learning rate, from files on disk to the validation's scores: checking, planning, preparation without a cache, choice of
precision and training all count. Seconds of both begin after the imports. Loop and ours alternate, `--repeats` times,
and medians count. With ``--minutes`` both get that long instead, once, and ours is scored with ``--tta``. ``--profile``
prints where the time of a step goes instead.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NETWORKS = {"cpu": "0", "cuda": "1"}
"""That a budget of so few seconds gets: half the features behind a stem, and full resolution."""

TARGETS = {"cpu": {0.84: 200, 0.85: 300}, "cuda": {0.84: 120, 0.85: 220}}
"""Mean Dice to reach, and the steps that ours, with that network, is given for it."""

BARS = {"cpu": 3, "cuda": 5}
"""How many times as long the loop is to take."""

LEARNING_RATE = 0.024
TRAINING_CASES = 160
RESERVE_S = 6.0
"""Of a run by the clock: kept beside the time that its predictions were found to take."""

TIMED_CASES = 2
"""Of the validation: that are predicted beforehand, to know how long all of them take."""

SLOWER = 1.2
"""How many times as long steps may take as those that were timed."""

TIMED_S = 10.0
"""For how long steps are timed, about."""


def main() -> None:
    """Print a table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--loop", type=Path, help="the plain loop's script")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="give both so long instead")
    parser.add_argument("--json", type=Path)
    one = "one training of ours; negative STEPS are seconds"
    parser.add_argument("--one", type=float, nargs=2, metavar=("STEPS", "SEED"), help=one)
    parser.add_argument("--network", type=int, choices=range(2), help="of a short or long budget; of that one")
    parser.add_argument("--tta", action="store_true", help="score that one with test-time augmentation")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    if arguments.profile:
        return profile(arguments.dataset)
    if arguments.one:
        steps, seed = arguments.one
        print(
            json.dumps(one_training(arguments.dataset, steps, int(seed), arguments.network, arguments.tta)), flush=True
        )
        return None
    show(compare(arguments), arguments.json)
    return None


def show(result: dict[str, Any], path: Path | None) -> None:
    """Print the rows, and write all that was measured where asked."""
    for row in result["rows"]:
        print(f"{row['what']:64} {row['segloss']:>22} {row['other']:>22} {row['ratio']:>8}", flush=True)
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both sides and return rows of the table and all that was measured."""
    if arguments.minutes:
        return compare_at_the_end(arguments)
    kind = device().type
    targets = TARGETS[kind]
    ours: dict[float, list[dict[str, Any]]] = {target: [] for target in targets}
    loops: list[list[dict[str, Any]]] = []
    for repeat in range(arguments.repeats):
        loops.append(loop(arguments, max(targets)))
        for target, steps in targets.items():
            ours[target].append(ours_apart(arguments.dataset, steps, repeat, "--network", NETWORKS[kind]))
    rows = []
    for target in targets:
        theirs = [reached(curve, target) for curve in loops]
        mine = [run["seconds"] if run["dice"] >= target else None for run in ours[target]]
        what = f"seconds to a validation Dice of {target}, median of {len(mine)}"
        rows.append(row(what, _median(mine), _median(theirs), BARS[kind]))
    measured: dict[str, Any] = {"ours": {str(target): runs for target, runs in ours.items()}, "loops": loops}
    if kind == "cpu":
        rows.append(row_of_sharing(arguments.dataset))
    return {"rows": rows, "measured": measured}


def compare_at_the_end(arguments: argparse.Namespace) -> dict[str, Any]:
    """Give both so many minutes, and return the row of what they reach."""
    curve = loop(arguments, 1.0, arguments.minutes)
    ours = ours_apart(arguments.dataset, -60 * arguments.minutes, 0, "--tta")
    theirs = [point for point in curve if point["seconds"] <= 60 * arguments.minutes][-1]
    gap = ours["dice"] - theirs["dice"]
    what = f"validation Dice after {arguments.minutes:g} minutes, ours with test-time augmentation"
    found = {"what": what, "segloss": f"{ours['dice']:.4f}"}
    found |= {"other": f"{theirs['dice']:.4f}", "ratio": f"{100 * gap:+.1f} points", "bar": "+1 point"}
    in_time = ours["seconds"] <= 60 * arguments.minutes
    if not in_time:
        found["segloss"] += f", after {ours['seconds']:.0f} s"
    return {"rows": [found | {"met": in_time and gap >= 0.01}], "measured": {"ours": ours, "loop": curve}}


def row_of_sharing(folder: Path) -> dict[str, Any]:
    """Return a row of steps a second: as many runs at once as there are cores, and one run on all of them."""
    from pipeline.study.machine import available_cores, measure_machine

    (dataset, _, plan), cores = planned(folder), available_cores()
    alone, shared = (
        measure_machine(plan, len(dataset.classes), cores, jobs=jobs, precision=None).step_seconds
        for jobs in (1, cores)
    )
    return {
        "what": f"steps a second of a study: {cores} runs at once on one core each, the other one run on {cores} cores",
        "segloss": f"{cores / shared:.1f}",
        "other": f"{1 / alone:.1f}",
        "ratio": f"{cores * alone / shared:.2f}",
        "bar": "1 time",
        "met": cores * alone >= shared,
    }


def planned(folder: Path) -> tuple[Any, Any, Any]:
    """Check a dataset and return it with its fingerprint and its plan."""
    from pipeline.data.datalists import read_dataset
    from pipeline.data.planning import make_plan
    from pipeline.data.scan import scan_dataset

    found = scan_dataset(read_dataset(folder))
    return found.dataset, found.fingerprint, make_plan(found.dataset, found.fingerprint)


def row(what: str, mine: float | None, theirs: float | None, bar: float) -> dict[str, Any]:
    """Return a row of seconds, with how many times longer the other takes."""
    ratio = None if mine is None or theirs is None else theirs / mine
    return {
        "what": what,
        "segloss": "not reached" if mine is None else f"{mine:.1f}",
        "other": "not reached" if theirs is None else f"{theirs:.1f}",
        "ratio": "" if ratio is None else f"{ratio:.2f}",
        "bar": f"{bar:g} times",
        "met": ratio is not None and ratio >= bar,
    }


def _median(values: list[float | None]) -> float | None:
    """Return the median where more than half reached the target."""
    found = sorted(float("inf") if value is None else value for value in values)
    median = statistics.median_low(found)
    return None if median == float("inf") else median


def reached(curve: list[dict[str, Any]], target: float) -> float | None:
    """Return the seconds of the first validation that reached the target."""
    return next((point["seconds"] for point in curve if point["dice"] >= target), None)


def loop(
    arguments: argparse.Namespace, target: float, minutes: float | None = None, loss: str = "dice_ce"
) -> list[dict[str, Any]]:
    """Run the plain loop until it reaches the target or has had so many minutes, and return its validations."""
    command = [sys.executable, str(arguments.loop), str(arguments.dataset), "--loss", loss, "--epochs", "400"]
    curve = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            point = json.loads(line)
            curve.append({"seconds": point["seconds"], "dice": statistics.mean(point["dice"])})
            print(f"loop {curve[-1]}", file=sys.stderr, flush=True)
            if curve[-1]["dice"] >= target or (minutes and curve[-1]["seconds"] >= 60 * minutes):
                break
        process.kill()
    if not curve:
        raise SystemExit(f"{' '.join(command)}: ended before its first validation; call it alone to see why")
    return curve


def ours_apart(dataset: Path, steps: float, seed: int, *options: str) -> dict[str, Any]:
    """Return what one training of ours, in a process of its own, prints."""
    command = [sys.executable, __file__, str(dataset), "--one", str(steps), str(seed), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"ours {found}", file=sys.stderr, flush=True)
    return found


def one_training(folder: Path, steps: float, seed: int, network: int | None, tta: bool = False) -> dict[str, Any]:
    """Train on the first 160 cases and score the others; seconds are from files on disk to scores."""
    import torch

    from pipeline.data.planning import budget_plans, plan_for_budget
    from pipeline.training.trainer import train

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        made = prepare(folder, Path(cache))
        until = None if steps > 0 else start - steps - RESERVE_S
        if network is None:
            paid = steps if until is None else (until - time.perf_counter()) / timed_step(made)
            made = dataclasses.replace(made, plan=plan_for_budget(made.plan, int(paid)))
        else:
            made = dataclasses.replace(made, plan=budget_plans(made.plan)[network])
        if until is not None:
            steps = affordable(made, until - timed_scores(made, tta))
        training = training_of(made, int(steps), seed)
        train(training, interval=training.steps)
        dice = dice_of(made, training.averaged_network, tta)
        seconds = time.perf_counter() - start
        once = {"dice_of_one_view": dice_of(made, training.averaged_network, False)} if tta else {}
    return {
        "steps": int(steps),
        "seed": seed,
        "seconds": round(seconds, 1),
        "dice": dice,
        **once,
        "training_s": round(training.seconds, 1),
        "step_ms": round(1000 * training.seconds / steps, 1),
        "precision": training.precision,
        "patch": made.plan.patch,
        "channels": made.plan.channels,
        "threads": torch.get_num_threads(),
    }


def dice_of(made: "Made", network: Any, tta: bool) -> float:
    """Return the mean Dice of a network on the validation cases, rounded as the table has it."""
    from pipeline.network.test_time_augmentation import RotationEnsemble
    from pipeline.training.validation import mean_dice, validate

    network = RotationEnsemble(network, made.plan.spacing_mm) if tta else network
    metrics = ("dice", "hausdorff95_mm")
    point = validate(network, made.validation, made.plan, made.classes, made.precision, device(), metrics)
    return round(mean_dice(point.scores) or 0.0, 4)


def timed_scores(made: "Made", tta: bool) -> float:
    """Return the seconds that `dice_of` will take, by a few cases and a network not yet trained."""
    few = dataclasses.replace(made, validation=made.validation[:TIMED_CASES])
    network = training_of(made, 2, 0).network.eval()
    dice_of(few, network, False)  # the first call of a process does more
    start = time.perf_counter()
    dice_of(few, network, tta)
    return (time.perf_counter() - start) * len(made.validation) / TIMED_CASES


@dataclasses.dataclass
class Made:
    """A dataset ready for training."""

    plan: Any
    classes: dict[int, str]
    class_voxels: tuple[int, ...]
    training: tuple[Any, ...]
    validation: tuple[Any, ...]
    precision: Any


def prepare(folder: Path, cache: Path) -> Made:
    """Check, plan and prepare the dataset, and choose the precision."""
    from pipeline.network.architecture import build_network
    from pipeline.network.precision import choose_precision
    from pipeline.training.preparation import prepare_dataset

    dataset, fingerprint, plan = planned(folder)
    prepared = prepare_dataset(dataset, plan, {scan.case: scan.content_hash for scan in fingerprint.scans}, cache)
    names = names_of(folder)
    fitting, held_out = names[:TRAINING_CASES], names[TRAINING_CASES:]
    scans = {scan.case: scan for scan in fingerprint.scans}
    channels, values = len(dataset.channels), sorted(dataset.classes)
    network = build_network(plan, channels, len(values), 0, 0)
    return Made(
        plan,
        dict(dataset.foreground),
        tuple(
            sum(scans[name].classes[value].voxels for name in fitting if value in scans[name].classes)
            for value in values
        ),
        tuple(prepared[name] for name in fitting),
        tuple(prepared[name] for name in held_out),
        choose_precision(network.to(device()), plan.patch, plan.batch, channels, device())[0],
    )


def device() -> Any:
    """Return what is trained on: a GPU where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_name() -> str:
    """Return the name of the GPU that is trained on; none is an error."""
    import torch

    return torch.cuda.get_device_name()


def names_of(folder: Path) -> list[str]:
    """Return the names of the cases in the order of ``dataset.json``, which is the loop's."""
    listed = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    return [Path(entry["image"]).name.split(".")[0] for entry in listed]


def training_of(made: Made, steps: int, seed: int) -> Any:
    """Return a training of Dice + CE, not yet begun."""
    from pipeline.losses import LossSpec, build_loss
    from pipeline.network.architecture import build_network
    from pipeline.training.patch_sampling import PatchSampler
    from pipeline.training.state import Training

    return Training(
        network=build_network(made.plan, len(made.plan.normalisation), len(made.classes) + 1, seed, 0),
        loss=build_loss(LossSpec("dice_ce"), made.class_voxels),
        sampler=PatchSampler(made.training, made.plan, seed, 0),
        learning_rate=LEARNING_RATE,
        steps=steps,
        precision=made.precision,
        device=device(),
    )


def affordable(made: Made, until: float) -> int:
    """Return the steps that fit into the time left."""
    step_s = timed_step(made)  # takes some of the time itself
    if (more := int(TIMED_S / step_s)) > 20:
        step_s = timed_step(made, more)
    return int((until - time.perf_counter()) / (SLOWER * step_s))


def timed_step(made: Made, steps: int = 20) -> float:
    """Return the seconds of a step, as the mean of a few after a warm-up."""
    from pipeline.training.trainer import train

    training = training_of(made, steps, 0)
    marks: list[float] = []
    train(training, interval=steps, on_step=lambda step: marks.append(time.perf_counter()))
    return (marks[-1] - marks[4]) / (len(marks) - 5)


def profile(folder: Path, steps: int = 20) -> None:
    """Print the share of each operator in the time of a training step."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    from pipeline.data.planning import budget_plans
    from pipeline.training.trainer import train

    with tempfile.TemporaryDirectory() as cache:
        made = prepare(folder, Path(cache))
        train(training_of(made, 5, 0), interval=5)
        for plan in budget_plans(made.plan):
            training = training_of(dataclasses.replace(made, plan=plan), steps, 0)
            with profiled(activities=[ProfilerActivity.CPU]) as found:
                train(training, interval=steps)
            print(plan.reasons["network"])
            print(f"{1000 * training.seconds / steps:.0f} ms a step under the profiler, patch {plan.patch}")
            events = sorted(found.key_averages(), key=lambda event: -event.self_cpu_time_total)
            total = sum(event.self_cpu_time_total for event in events)
            for event in events[:14]:
                print(f"  {event.self_cpu_time_total / total:6.1%}  {event.count:5}  {event.key}")


if __name__ == "__main__":
    main()
