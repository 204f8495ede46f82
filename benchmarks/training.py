"""Compare one training with the loop that a user would write from MONAI's tutorials.

    python benchmarks/training.py ../shared/data/hippocampus --loop ../shared/baselines/monai_loop.py

The loop trains on the first 160 cases of ``dataset.json`` and validates on the other 40 every two epochs. segloss
trains and validates on the same cases, with a budget of steps for each target as a user would give it (``--budget``)
and at one learning rate. Its time includes everything from files on disk to the scores of the validation: checks,
planning, preparation without a cache, choice of precision and training. Both times begin after the imports. Loop and
segloss alternate, `--repeats` times, and medians are compared. With ``--minutes`` both run for that time instead, once,
and segloss is scored with ``--tta``. ``--profile`` prints the time of each operator in a training step instead.
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
"""Index of the network that a budget of so few seconds selects: half the features behind a stem, or full resolution."""

TARGETS = {"cpu": {0.84: 200, 0.85: 300}, "cuda": {0.84: 120, 0.85: 220}}
"""Mean Dice to reach, and the steps that segloss has for it with that network."""

BARS = {"cpu": 3, "cuda": 5}
"""Target of the comparison: how many times as long the loop takes."""

LEARNING_RATE = 0.024
TRAINING_CASES = 160
RESERVE_S = 6.0
"""Seconds of a timed run that are reserved besides the expected time of its predictions."""

TIMED_CASES = 2
"""Validation cases that are predicted beforehand, to estimate the time of all of them."""

SLOWER = 1.2
"""How many times as long as timed steps may later steps take."""

TIMED_S = 10.0
"""Approximate seconds for which steps are timed."""


def main() -> None:
    """Print a table, and write it if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--loop", type=Path, help="script of the plain loop")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="run both for this time instead")
    parser.add_argument("--json", type=Path)
    one = "run one training of segloss; negative STEPS are seconds"
    parser.add_argument("--one", type=float, nargs=2, metavar=("STEPS", "SEED"), help=one)
    parser.add_argument(
        "--network", type=int, choices=range(2), help="network of a short (0) or long (1) budget, for --one"
    )
    parser.add_argument("--tta", action="store_true", help="score the training of --one with test-time augmentation")
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
    """Print the rows, and write all measurements if requested."""
    for row in result["rows"]:
        print(f"{row['what']:64} {row['segloss']:>22} {row['other']:>22} {row['ratio']:>8}", flush=True)
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both sides and return the rows of the table with all measurements."""
    if arguments.minutes:
        return compare_at_the_end(arguments)
    kind = device().type
    targets = TARGETS[kind]
    own: dict[float, list[dict[str, Any]]] = {target: [] for target in targets}
    loops: list[list[dict[str, Any]]] = []
    for repeat in range(arguments.repeats):
        loops.append(loop(arguments, max(targets)))
        for target, steps in targets.items():
            own[target].append(own_training(arguments.dataset, steps, repeat, "--network", NETWORKS[kind]))
    rows = []
    for target in targets:
        loop_s = [reached(curve, target) for curve in loops]
        own_s = [run["seconds"] if run["dice"] >= target else None for run in own[target]]
        what = f"seconds to a validation Dice of {target}, median of {len(own_s)}"
        rows.append(row(what, _median(own_s), _median(loop_s), BARS[kind]))
    measured: dict[str, Any] = {"ours": {str(target): runs for target, runs in own.items()}, "loops": loops}
    if kind == "cpu":
        rows.append(row_of_sharing(arguments.dataset))
    return {"rows": rows, "measured": measured}


def compare_at_the_end(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both for the given minutes, and return the row with their validation Dice."""
    curve = loop(arguments, 1.0, arguments.minutes)
    own = own_training(arguments.dataset, -60 * arguments.minutes, 0, "--tta")
    last = [point for point in curve if point["seconds"] <= 60 * arguments.minutes][-1]
    gap = own["dice"] - last["dice"]
    what = f"validation Dice after {arguments.minutes:g} minutes, ours with test-time augmentation"
    result = {"what": what, "segloss": f"{own['dice']:.4f}"}
    result |= {"other": f"{last['dice']:.4f}", "ratio": f"{100 * gap:+.1f} points", "bar": "+1 point"}
    in_time = own["seconds"] <= 60 * arguments.minutes
    if not in_time:
        result["segloss"] += f", after {own['seconds']:.0f} s"
    return {"rows": [result | {"met": in_time and gap >= 0.01}], "measured": {"ours": own, "loop": curve}}


def row_of_sharing(folder: Path) -> dict[str, Any]:
    """Return the row of steps per second: as many runs at once as there are cores, and one run on all cores."""
    from pipeline.study.machine import Workload, available_cores, measure_machine
    from pipeline.training.recipe import Recipe

    (dataset, _, plan), cores = planned(folder), available_cores()
    alone, shared = (
        measure_machine(Workload(plan, len(dataset.classes), Recipe()), cores, jobs=jobs, precision=None).step_seconds
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


def row(what: str, own_s: float | None, other_s: float | None, bar: float) -> dict[str, Any]:
    """Return a row of seconds, with how many times as long the other takes."""
    ratio = None if own_s is None or other_s is None else other_s / own_s
    return {
        "what": what,
        "segloss": "not reached" if own_s is None else f"{own_s:.1f}",
        "other": "not reached" if other_s is None else f"{other_s:.1f}",
        "ratio": "" if ratio is None else f"{ratio:.2f}",
        "bar": f"{bar:g} times",
        "met": ratio is not None and ratio >= bar,
    }


def _median(values: list[float | None]) -> float | None:
    """Return the median if more than half of the trainings reached the target, else None."""
    seconds = sorted(float("inf") if value is None else value for value in values)
    median = statistics.median_low(seconds)
    return None if median == float("inf") else median


def reached(curve: list[dict[str, Any]], target: float) -> float | None:
    """Return the seconds of the first validation that reached the target, or None."""
    return next((point["seconds"] for point in curve if point["dice"] >= target), None)


def loop(
    arguments: argparse.Namespace, target: float, minutes: float | None = None, loss: str = "dice_ce"
) -> list[dict[str, Any]]:
    """Run the plain loop until it reaches the target or has run for `minutes`, and return its validations."""
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
        raise SystemExit(f"{' '.join(command)}: ended before its first validation; run it alone to see the reason")
    return curve


def own_training(dataset: Path, steps: float, seed: int, *options: str) -> dict[str, Any]:
    """Run one training of segloss in its own process, and return its printed result."""
    command = [sys.executable, __file__, str(dataset), "--one", str(steps), str(seed), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"segloss {result}", file=sys.stderr, flush=True)
    return result


def one_training(folder: Path, steps: float, seed: int, network: int | None, tta: bool = False) -> dict[str, Any]:
    """Train on the first 160 cases and score the others. Seconds count from files on disk to scores."""
    import torch

    from pipeline.data.planning import budget_plans, plan_for_budget
    from pipeline.training.trainer import train

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        made = prepare(folder, Path(cache))
        until = None if steps > 0 else start - steps - RESERVE_S
        if network is None:
            budget = steps if until is None else (until - time.perf_counter()) / timed_step(made)
            made = dataclasses.replace(made, plan=plan_for_budget(made.plan, int(budget)))
        else:
            made = dataclasses.replace(made, plan=budget_plans(made.plan)[network])
        if until is not None:
            steps = affordable(made, until - timed_scores(made, tta))
        training = training_of(made, int(steps), seed)
        train(training, interval=training.steps)
        dice = dice_of(made, training.averaged_network, tta)
        seconds = time.perf_counter() - start
        without_tta = {"dice_of_one_view": dice_of(made, training.averaged_network, False)} if tta else {}
    return {
        "steps": int(steps),
        "seed": seed,
        "seconds": round(seconds, 1),
        "dice": dice,
        **without_tta,
        "training_s": round(training.seconds, 1),
        "step_ms": round(1000 * training.seconds / steps, 1),
        "precision": training.precision,
        "patch": made.plan.patch,
        "channels": made.plan.channels,
        "threads": torch.get_num_threads(),
    }


def dice_of(made: "Made", network: Any, tta: bool) -> float:
    """Return the mean Dice of a network on the validation cases, with four decimals as in the table."""
    from pipeline.network.test_time_augmentation import RotationEnsemble
    from pipeline.records.table import mean_dice
    from pipeline.training.validation import EvaluationSettings, validate

    network = RotationEnsemble(network, made.plan.spacing_mm) if tta else network
    metrics = ("dice", "hausdorff95_mm")
    settings = EvaluationSettings(made.plan, made.classes, made.precision, device())
    point = validate(network, made.validation, settings, metrics)
    return round(mean_dice(point.scores) or 0.0, 4)


def timed_scores(made: "Made", tta: bool) -> float:
    """Estimate the seconds of `dice_of` from a few cases and an untrained network."""
    few = dataclasses.replace(made, validation=made.validation[:TIMED_CASES])
    network = training_of(made, 2, 0).network.eval()
    dice_of(few, network, False)  # the first call of a process takes longer
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
    """Return the device to train on: a GPU if there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_name() -> str:
    """Return the name of the GPU to train on; without a GPU torch raises an error."""
    import torch

    return torch.cuda.get_device_name()


def names_of(folder: Path) -> list[str]:
    """Return the names of the cases in the order of ``dataset.json``, as in the loop."""
    listed = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["training"]
    return [Path(entry["image"]).name.split(".")[0] for entry in listed]


def training_of(made: Made, steps: int, seed: int) -> Any:
    """Return a training of Dice + CE before its first step."""
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
    step_s = timed_step(made)  # this uses some of the time itself
    if (more := int(TIMED_S / step_s)) > 20:
        step_s = timed_step(made, more)
    return int((until - time.perf_counter()) / (SLOWER * step_s))


def timed_step(made: Made, steps: int = 20) -> float:
    """Return the seconds of a step, the mean of a few steps after a warm-up."""
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
            with profiled(activities=[ProfilerActivity.CPU]) as measured:
                train(training, interval=steps)
            print(plan.reasons["network"])
            print(f"{1000 * training.seconds / steps:.0f} ms per step under the profiler, patch {plan.patch}")
            events = sorted(measured.key_averages(), key=lambda event: -event.self_cpu_time_total)
            total = sum(event.self_cpu_time_total for event in events)
            for event in events[:14]:
                print(f"  {event.self_cpu_time_total / total:6.1%}  {event.count:5}  {event.key}")


if __name__ == "__main__":
    main()
