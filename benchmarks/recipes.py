"""Train one run with each recipe: seconds per step on one core, and Dice of the held-out cases.

    python benchmarks/recipes.py ../shared/data/hippocampus --recipes fast,nnunet,monai --steps 400

Each row is fold 0 of 5 with seed 0, at the default learning rate of the recipe or, with ``--search``, at the rate that
the search of a study would choose. Seconds are CPU time of the training alone, without the search and the predictions.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any


def main() -> None:
    """Print a row for each recipe."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--recipes", default="fast,nnunet,monai")
    parser.add_argument("--loss", default="dice_ce")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rate", type=float, help="learning rate in place of the default of each recipe")
    parser.add_argument("--search", action="store_true", help="choose the learning rate as a study does")
    arguments = parser.parse_args()
    print(f"{'recipe':8} {'loss':12} {'steps':>5} {'rate':>7} {'ms per step':>11} {'Dice':>6} {'seconds':>8}  network")
    for name in arguments.recipes.split(","):
        print(row(arguments, name), flush=True)


def row(arguments: argparse.Namespace, name: str) -> str:
    """Carry out a run and return its row of the table."""
    from pipeline.records.folder import RunFolder, RunKey
    from pipeline.records.run import RunRecord
    from pipeline.training.run import run

    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_of(arguments, name, Path(scratch) / "prepared")
        folder = RunFolder(Path(scratch) / "run", RunKey(settings.loss.label, 0, 0))
        folder.root.mkdir()
        started = time.perf_counter()
        run(settings, folder)
        record = RunRecord.model_validate_json(folder.record.read_bytes())
    plan, seconds = settings.plan, time.perf_counter() - started
    if record.training_seconds is None or record.learning_rate is None or record.mean_dice is None:
        return f"{name:8} {record.loss:12} {record.state} ({record.why})"
    step_ms = 1000 * record.training_seconds / record.steps
    edges = "x".join(map(str, plan.patch))
    network = settings.recipe.network.name if settings.recipe.network else f"stem {plan.stem}, {plan.channels}"
    return (
        f"{name:8} {record.loss:12} {record.steps:5} {record.learning_rate:7g} {step_ms:11.0f} "
        f"{record.mean_dice:6.4f} {seconds:8.0f}  {network}, {plan.batch} patches of {edges}, {record.precision}"
    )


def settings_of(arguments: argparse.Namespace, name: str, cache: Path) -> Any:
    """Return the settings of fold 0 with a recipe, after the preparation of all cases."""
    from pipeline.data.datalists import read_dataset
    from pipeline.data.folds import make_folds
    from pipeline.data.planning import make_plan, plan_for_budget
    from pipeline.data.scan import scan_dataset
    from pipeline.losses import parse_losses
    from pipeline.network.patch_fitting import fit_patch
    from pipeline.training.preparation import prepare_dataset
    from pipeline.training.recipe import recipe_named
    from pipeline.training.settings import RunSettings

    recipe = recipe_named(name)
    scan = scan_dataset(read_dataset(arguments.dataset), workers=1)
    dataset, fingerprint = scan.dataset, scan.fingerprint
    plan = plan_for_budget(make_plan(dataset, fingerprint), arguments.steps)
    if recipe.network is not None:
        plan = fit_patch(plan, recipe.network, len(dataset.channels), len(dataset.classes))
    hashes = {one.case: one.content_hash for one in fingerprint.scans}
    prepared = prepare_dataset(dataset, plan, hashes, cache, workers=0)
    held_out = set(make_folds(dataset, fingerprint, 5, 0)[0].cases)
    fitting = [case for case in dataset.cases if case.id not in held_out]
    names = {case.id for case in fitting}
    rates = recipe.optimizer.rates
    settings = RunSettings(
        loss=parse_losses(arguments.loss)[0],
        fold=0,
        seed=0,
        plan=replace(plan, metrics=("dice",)),
        classes=dataset.foreground,
        class_voxels=tuple(
            sum(one.classes[value].voxels for one in fingerprint.scans if one.case in names and value in one.classes)
            for value in sorted(dataset.classes)
        ),
        training=tuple(prepared[case.id] for case in fitting),
        patients=tuple(case.patient for case in fitting),
        validation=tuple(prepared[case.id] for case in dataset.cases if case.id in held_out),
        originals={case.id: case for case in dataset.cases if case.id in held_out},
        steps=arguments.steps,
        precision="float32",
        learning_rates=rates.candidates if arguments.search else (arguments.rate or rates.default,),
        validations=1,
        keep_predictions=False,
        recipe=recipe,
    )
    return settings


if __name__ == "__main__":
    main()
