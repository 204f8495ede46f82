"""The regret of the search over learning rates against full trainings at every candidate.

    python benchmarks/learning_rate_regret.py measure --data ../shared/data --work FOLDER [--only NAME,...]
    python benchmarks/learning_rate_regret.py report

`measure` trains each loss at each rate: once in full, scored by hard Dice on a fold that was not trained on, and in
probes, longer until a candidate beats chance, scored in several ways on the held-out fifth of the training cases. It
appends one row per training to the table in benchmarks/results and skips the rows that are there, so it can be stopped
and continued.

`report` replays searches on that table: the present one, the former one (hard Dice, ties to the smallest rate) and
alternatives. The regret of a search is the mean Dice over replicates at the best candidate, less the mean Dice at the
rate that the search chose. Each replicate has its own seed and one of two folds.
"""

import argparse
import csv
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.data.dataset import Dataset
from pipeline.training.learning_rate import CANDIDATES, beats_chance, choose_rate, default_rate, trial_steps

RESULTS = Path(__file__).parent / "results" / "learning_rate_regret.csv"
LOSSES = "ce,weighted_ce,focal,dice,dice_ce,tversky"
Key = tuple[object, ...]
BEYOND = 7.2e-2
"""A rate above the candidates, to see whether they should reach further."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One dataset.

    `fraction` is the foreground of phantoms, None for a folder of real cases. `memory_gib` limits the patch, and
    `small_network` takes that of a sweep, so that small structures are learned in minutes on one core.
    """

    name: str
    steps: int
    cases: int
    fraction: float | None = None
    memory_gib: float = 8.0
    small_network: bool = False
    rates: tuple[float, ...] = CANDIDATES


BENCHES = (
    Bench("phantoms of 0.1 %", 200, 16, 0.001, rates=(*CANDIDATES, BEYOND)),
    Bench("openkbp", 100, 12, memory_gib=0.4, small_network=True),
    Bench("phantoms of 1 %", 200, 16, 0.01),
    Bench("hippocampus", 200, 32),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One training and its scores, empty where it went to NaN.

    `kind` is ``untrained``, ``probe`` or ``full``; scores are means over classes of the means over cases: hard and soft
    Dice, average precision, prevalence, and the loss itself.
    """

    dataset: str
    loss: str
    replicate: int
    rate: float
    kind: str
    steps: int
    dice: float | None = None
    soft_dice: float | None = None
    average_precision: float | None = None
    prevalence: float | None = None
    own_loss: float | None = None
    seconds: float = 0.0


def dataset_of(bench: Bench, data: Path, work: Path) -> Dataset:
    """Return the cases of a bench; of OpenKBP only those in which all organs are annotated."""
    from pipeline.data.datalists import read_dataset
    from pipeline.study.sweep_levels import make_level

    if bench.fraction is not None:
        make_level(work / bench.name, bench.fraction, bench.cases)
        return read_dataset(work / bench.name)
    dataset = read_dataset(data / bench.name)
    annotated = data / bench.name / "annotated.json"
    whole = json.loads(annotated.read_text(encoding="utf-8")) if annotated.exists() else {}
    kept = [case for case in dataset.cases if len(whole.get(case.id, dataset.foreground)) == len(dataset.foreground)]
    return replace(dataset, cases=tuple(kept[: bench.cases]))


def measure(data: Path, work: Path, table: Path, only: Sequence[str], replicates: int) -> None:
    """Append the rows that the table lacks, replicate after replicate."""
    import torch

    torch.set_num_threads(1)
    known = {_key(row): row for row in read_rows(table)}
    benches = [bench for bench in BENCHES if not only or bench.name in only]
    for replicate in range(replicates):
        for bench in benches:
            for settings in arms(bench, data, work, replicate):
                for row in rows_of(bench.name, settings, replicate, known):
                    append(table, row)
                    known[_key(row)] = row
                    print(f"{row.dataset} {row.loss} r{replicate} {row.rate:g} {row.kind} {row.steps}", flush=True)


def arms(bench: Bench, data: Path, work: Path, replicate: int) -> Iterator[Any]:
    """Yield the settings of a run of each loss."""
    from pipeline.data.folds import make_folds
    from pipeline.data.planning import make_plan, plan_for_budget
    from pipeline.data.scan import scan_dataset
    from pipeline.losses import parse_losses
    from pipeline.study.sweep_levels import FEATURES, small_network
    from pipeline.training.preparation import prepare_dataset
    from pipeline.training.settings import RunSettings

    scanned = scan_dataset(dataset_of(bench, data, work), cache_folder=work / "checked")
    dataset, fingerprint = scanned.dataset, scanned.fingerprint
    plan = make_plan(dataset, fingerprint, bench.memory_gib)
    plan = small_network(plan) if bench.fraction is not None else plan_for_budget(plan, bench.steps)
    if bench.small_network:
        plan = replace(plan, channels=FEATURES, strides=plan.strides[: len(FEATURES) - 1])
    scans = {scan.case: scan for scan in fingerprint.scans}
    hashes = {case: scan.content_hash for case, scan in scans.items()}
    prepared = prepare_dataset(dataset, plan, hashes, work / "prepared")
    folds = make_folds(dataset, fingerprint, 2, 0)
    fold = folds[replicate % len(folds)]
    cases = [case for case in dataset.cases if case.id not in fold.cases]
    voxels = [
        sum(scans[case.id].classes[value].voxels for case in cases if value in scans[case.id].classes)
        for value in sorted(dataset.classes)
    ]
    for spec in parse_losses(LOSSES):
        yield RunSettings(
            loss=spec,
            fold=fold.index,
            seed=replicate,
            plan=plan,
            classes=dataset.foreground,
            class_voxels=tuple(voxels),
            training=tuple(prepared[case.id] for case in cases),
            patients=tuple(case.patient for case in cases),
            validation=tuple(prepared[case] for case in fold.cases),
            originals={},
            steps=bench.steps,
            precision="bfloat16",
            learning_rates=bench.rates,
        )


def rows_of(dataset: str, settings: Any, replicate: int, known: Mapping[Key, Row]) -> Iterator[Row]:
    """Yield the rows of a loss that are not known: full trainings, and probes until a candidate beats chance."""
    from pipeline.training.learning_rate import split_training_cases

    shown = [bool(case.foreground()) for case in settings.training]
    fitting, scoring = split_training_cases(settings.training, settings.patients, shown, replicate, settings.fold)
    row = Row(dataset, settings.loss.label, replicate, 0.0, "untrained", 0)

    def found(row: Row) -> Row:
        if _key(row) in known:
            return known[_key(row)]
        if row.kind == "full":
            return trained(row, settings, settings.training, settings.validation)
        return trained(row, settings, fitting, scoring)

    untrained = found(row)
    rows = [untrained]
    chance = max(untrained.average_precision or 0.0, untrained.prevalence or 0.0)
    for steps in trial_steps(settings.steps):
        probes = [found(replace(row, rate=rate, kind="probe", steps=steps)) for rate in settings.learning_rates]
        rows += probes
        if any(beats_chance(probe.average_precision, chance) for probe in probes if probe.rate in CANDIDATES):
            break
    yield from (one for one in rows if _key(one) not in known)
    for rate in settings.learning_rates:
        full = replace(row, rate=rate, kind="full", steps=settings.steps)
        if _key(full) not in known:
            yield found(full)


def trained(row: Row, settings: Any, fit_on: Sequence, score_on: Sequence) -> Row:
    """Return the row with the scores of its training."""
    from pipeline.training.settings import new_training
    from pipeline.training.state import NonFiniteError
    from pipeline.training.trainer import train

    started = time.thread_time()
    training = new_training(settings, tuple(fit_on), row.rate or 1e-3, max(row.steps, 1))
    try:
        if row.steps:
            train(training, interval=row.steps)
        row = replace(row, **scores(training, settings, score_on))
    except (NonFiniteError, FloatingPointError):
        pass
    return replace(row, seconds=round(time.thread_time() - started, 1))


def scores(training: Any, settings: Any, cases: Sequence) -> dict[str, float]:
    """Return the scores of a network on prepared cases, all from one prediction of each."""
    import torch

    from pipeline.network.prediction import sliding_inferer
    from pipeline.network.sliding_window import predicted_classes
    from pipeline.training.average_precision import average_precision

    inferer = sliding_inferer(settings.plan, settings.precision, training.device)
    network, loss = training.averaged_network.eval(), training.loss
    if hasattr(loss, "set_progress"):
        loss.set_progress(1.0)
    found: dict[str, dict[int, list[float]]] = {}
    own: list[float] = []
    with torch.inference_mode():
        for case in cases:
            logits = inferer(torch.from_numpy(np.array(case.image()))[None], network)
            label = np.array(case.label())
            own.append(float(loss(logits, torch.from_numpy(label)[None, None].float())))
            prediction, probabilities = predicted_classes(logits[0]).numpy(), logits[0].softmax(0).numpy()
            for index in range(1, len(probabilities)):
                truth, p, mask = label == index, probabilities[index], prediction == index
                if truth.any():
                    values = {
                        "dice": 2 * (mask & truth).sum() / (mask.sum() + truth.sum()),
                        "soft_dice": 2 * p[truth].sum() / (p.sum() + truth.sum()),
                        "average_precision": average_precision(p, truth),
                        "prevalence": truth.mean(),
                    }
                    for name, value in values.items():
                        found.setdefault(name, {}).setdefault(index, []).append(float(value))
    means = {name: float(np.mean([np.mean(of) for of in classes.values()])) for name, classes in found.items()}
    return means | {"own_loss": float(np.mean(own))}


def _key(row: Row) -> Key:
    return row.dataset, row.loss, row.replicate, row.rate, row.kind, row.steps


def read_rows(table: Path) -> list[Row]:
    """Return the rows of the table, or no rows if the file does not exist."""
    if not table.exists():
        return []
    text = ("dataset", "loss", "kind")
    with table.open(encoding="utf-8", newline="") as file:
        return [
            Row(
                **{
                    name: value if name in text else int(value) if name in ("replicate", "steps") else _number(value)
                    for name, value in line.items()
                }
            )
            for line in csv.DictReader(file)
        ]


def _number(text: str) -> float | None:
    return float(text) if text else None


def append(table: Path, row: Row) -> None:
    """Append a row, after the header in a new table."""
    table.parent.mkdir(parents=True, exist_ok=True)
    new = not table.exists()
    with table.open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow([field.name for field in fields(Row)])
        cells = [f"{value:.6g}" if isinstance(value, float) else value for value in asdict(row).values()]
        writer.writerow(["" if value is None else value for value in cells])


# Searches: each returns the rate that it chooses from the probes of one loss and replicate.

Score = Callable[[float, int], float | None]
Search = Callable[[Score, float, Sequence[int]], float]
"""From a score of (rate, steps), the score of chance and the lengths of probes to a rate."""


def former(score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Search as before: largest first, ended by a worse one, ties to the smallest."""
    found: list[tuple[float, float]] = []
    for rate in sorted(CANDIDATES, reverse=True):
        value = score(rate, lengths[0])
        found.append((-1.0 if value is None else value, -rate))
        if len(found) > 1 and -1 < found[-1][0] < found[-2][0]:
            break
    return -max(found)[1]


def present(score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Search as the package does."""
    return choose_rate(CANDIDATES, lengths, chance, score).chosen


def wider(score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Search as the package does, with one larger candidate."""
    return choose_rate((*CANDIDATES, BEYOND), lengths, chance, score).chosen


def one_round(score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Search as the package does, without longer probes."""
    return choose_rate(CANDIDATES, lengths[:1], chance, score).chosen


def ended_early(score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Search as the package does, but end each round at a rate worse than the one before."""
    worst = {steps: False for steps in lengths}
    before: dict[int, float | None] = {}

    def stopping(rate: float, steps: int) -> float | None:
        value = None if worst[steps] else score(rate, steps)
        last = before.get(steps)
        worst[steps] |= value is not None and last is not None and value < last
        before[steps] = value
        return value

    return choose_rate(CANDIDATES, lengths, chance, stopping).chosen


def always(rate: float, score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Take this rate without a search."""
    return rate


def best_of_first(score: Score, chance: float, lengths: Sequence[int]) -> float:
    """Take the best score of the first round, the default where none is defined."""
    values = {rate: value for rate in CANDIDATES if (value := score(rate, lengths[0])) is not None}
    return max(values, key=lambda rate: values[rate]) if values else default_rate(CANDIDATES)


SEARCHES: tuple[tuple[str, str, int, Search], ...] = (
    ("former: hard Dice, ties to the smallest, ended early", "dice", 1, former),
    ("present: average precision, longer until above chance", "average_precision", 1, present),
    ("average precision, one round", "average_precision", 1, one_round),
    ("average precision, each round ended early", "average_precision", 1, ended_early),
    (f"average precision, with {BEYOND:g} as a candidate", "average_precision", 1, wider),
    ("soft Dice, one round", "soft_dice", 1, best_of_first),
    ("own held-out loss, one round", "own_loss", -1, best_of_first),
    *((f"always {rate:g}", "dice", 1, partial(always, rate)) for rate in CANDIDATES),
)


def chosen(rows: pd.DataFrame, column: str, sign: int, search: Search) -> float:
    """Return the rate that a search chooses from the rows of one loss and replicate, NaN where it was not measured."""
    if search is wider and BEYOND not in set(rows.loc[rows["kind"] == "full", "rate"]):
        return np.nan
    probes = rows[rows["kind"] == "probe"].set_index(["rate", "steps"])[column]
    untrained = rows[rows["kind"] == "untrained"].iloc[0]
    chance = max(untrained["average_precision"], untrained["prevalence"])
    lengths = sorted({int(steps) for _, steps in probes.index})

    def score(rate: float, steps: int) -> float | None:
        value = float(probes[rate, steps])
        return sign * value if np.isfinite(value) else None

    return search(score, float(chance), lengths)


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the losses and replicates that were trained in full at every candidate."""
    full = (rows["kind"] == "full") & rows["rate"].isin(CANDIDATES)
    count = full.groupby([rows[name] for name in ("dataset", "loss", "replicate")]).transform("sum")
    return rows[count == len(CANDIDATES)]


def report(table: Path) -> None:
    """Print Dice at each rate, what each search chooses, and its regret."""
    rows = complete(pd.DataFrame([asdict(row) for row in read_rows(table)]))
    regrets: list[dict[str, object]] = []
    for dataset, of_dataset in rows.groupby("dataset", sort=False):
        rates = sorted(of_dataset.loc[of_dataset["kind"] == "full", "rate"].unique())
        full = of_dataset[of_dataset["kind"] == "full"].assign(dice=lambda frame: frame["dice"].fillna(0.0))
        noise = full[full["rate"].isin(CANDIDATES)].groupby(["loss", "rate"])["dice"].std(ddof=1)
        replicates = full["replicate"].nunique()
        print(f"\n{dataset}: mean Dice (%) over {replicates} replicates after {int(full['steps'].max())} steps")
        print(f"{'loss':<14}" + "".join(f"{rate:>9g}" for rate in rates) + f"  {'former':<22}{'present':<22}regret")
        for loss, of_loss in of_dataset.groupby("loss", sort=False):
            dice = full[full["loss"] == loss].groupby("rate")["dice"].mean()
            best = float(dice[list(CANDIDATES)].max())
            choices = {
                name: [chosen(one, column, sign, search) for _, one in of_loss.groupby("replicate")]
                for name, column, sign, search in SEARCHES
            }
            regret = {
                name: best - float(np.mean([dice.get(rate, np.nan) for rate in found]))
                for name, found in choices.items()
            }
            regrets += [{"dataset": dataset, "search": name, "regret": value} for name, value in regret.items()]
            old, new = (name for name, *_ in SEARCHES[:2])
            cells = "".join(f"{100 * dice.get(rate, np.nan):9.1f}" for rate in rates)
            names = "".join(f"{', '.join(f'{rate:g}' for rate in choices[name]):<22}" for name in (old, new))
            print(f"{loss:<14}{cells}  {names}{100 * regret[old]:.1f} → {100 * regret[new]:.1f}")
        typical, mean = 100 * noise.median(), 100 * noise.mean()
        print(f"Between replicates at one rate: median SD {typical:.1f}, mean {mean:.1f} points")
    frame = pd.DataFrame(regrets).dropna()
    print(f"\nRegret in Dice points over all losses\n{'search':<58}{'mean':>7}{'max':>7}   means by dataset")
    for name, of_search in frame.groupby("search", sort=False):
        by = ", ".join(
            f"{dataset} {100 * values.mean():.1f}"
            for dataset, values in of_search.groupby("dataset", sort=False)["regret"]
        )
        mean, largest = 100 * of_search["regret"].mean(), 100 * of_search["regret"].max()
        print(f"{name:<58}{mean:7.1f}{largest:7.1f}   {by}")


def main() -> None:
    """Measure, or report what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=RESULTS)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="train what the table lacks")
    measuring.add_argument("--data", type=Path, default=Path("../shared/data"))
    measuring.add_argument("--work", type=Path, required=True, help="folder for phantoms and prepared cases")
    measuring.add_argument("--replicates", type=int, default=2, help="seeds; folds alternate")
    measuring.add_argument("--only", default="", help="names of datasets, e.g. hippocampus,openkbp")
    commands.add_parser("report", help="print the tables")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        only = [name for name in arguments.only.split(",") if name]
        measure(arguments.data, arguments.work, arguments.table, only, arguments.replicates)
    else:
        report(arguments.table)


if __name__ == "__main__":
    main()
