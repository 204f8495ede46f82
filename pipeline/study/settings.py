"""The settings of a study: what it was asked for, how that is written down, and what may follow it."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pipeline
from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.folds import Fold
from pipeline.data.plan import Plan
from pipeline.data.planning import budget_plans, plan_for_budget
from pipeline.errors import ConfigError, RecordError
from pipeline.losses import LossSpec, parse_losses
from pipeline.network.precision import Precision
from pipeline.records.folder import StudyFolder
from pipeline.study.budget import Budget
from pipeline.study.machine import Machine, measure_machine
from pipeline.study.progress import Watcher
from pipeline.study.request import StudyRequest
from pipeline.study.workers import Workers
from pipeline.system.files import write_json
from pipeline.training.learning_rate import CANDIDATES, SEARCH
from pipeline.training.optimizer import OPTIMIZER
from pipeline.training.state import SCHEDULE

WORTH_A_STEM = 1.25
"""How many times as long a step at full resolution must take, on a GPU, for a network behind a stem to be trained."""


def arms_of(request: StudyRequest) -> tuple[LossSpec, ...]:
    """Return the losses asked for, followed by the control arms.

    Raises
    ------
    ConfigError
        For a loss that is unknown or malformed, or a control of a loss that is not in the study.
    """
    losses = parse_losses(request.losses)
    by_label = {spec.label: spec for spec in losses}
    controls = [label.strip() for label in request.controls.split(",") if label.strip()]
    for label in controls:
        if label not in by_label:
            raise ConfigError(
                f"--control {label}", "is not one of the losses of this study", f"give one of {', '.join(by_label)}"
            )
    return (*losses, *(by_label[label].as_control() for label in dict.fromkeys(controls)))


def check_same(study: StudyFolder, request: StudyRequest, losses: Sequence[LossSpec]) -> None:
    """Refuse to continue a study with another request; more losses and seeds than before extend it."""
    settings = study.read_settings()
    stored, asked = {"tta": False} | settings["request"], json.loads(json.dumps(request.identity()))
    different = [f"{name} {stored.get(name)} → {asked[name]}" for name in asked if stored.get(name) != asked[name]]
    before = settings.get("optimizer", "AdamW")
    if before != OPTIMIZER:
        different.append(f"optimizer {before} → {OPTIMIZER}")
    if len(settings["learning_rates"]) > 1 and (former := settings.get("learning_rate_search", "hard Dice")) != SEARCH:
        different.append(f"search over learning rates by {former} → by {SEARCH}")
    specs = {spec.label: spec.text for spec in losses}
    dropped = [entry["label"] for entry in settings["losses"] if specs.get(entry["label"]) != entry["spec"]]
    if dropped:
        different.append(f"without {', '.join(dropped)}")
    if request.seeds < len(settings["seeds"]):
        different.append(f"seeds {len(settings['seeds'])} → {request.seeds}")
    if different:
        raise RecordError(
            study.root,
            f"holds a study of other settings ({'; '.join(different)})",
            "give another --out, or the same settings",
        )


def check_unchanged(study: StudyFolder, fingerprint: Fingerprint) -> None:
    """Refuse to continue a study whose files are others than when it began: half of its runs saw the old ones."""
    if not study.settings.exists():
        return
    stored = {
        entry["case"]: entry["content_hash"]
        for entry in json.loads((study.root / "fingerprint.json").read_text(encoding="utf-8"))
    }
    found = {scan.case: scan.content_hash for scan in fingerprint.scans}
    changed = sorted(case for case in stored.keys() | found.keys() if stored.get(case) != found.get(case))
    if changed:
        shown = ", ".join(changed[:5]) + (", …" if len(changed) > 5 else "")
        raise RecordError(
            study.root,
            f"began with other files of {len(changed)} case(s): {shown}",
            "bring them back, or give another --out",
        )


def further_runs(
    study: StudyFolder, request: StudyRequest, folds: Sequence[Fold], losses: Sequence[LossSpec]
) -> list[dict[str, Any]]:
    """Return the runs of a request that the plan of a study lacks."""
    known = study.read_settings()["runs"]
    return [entry for entry in _planned(_seeds(request), folds, losses) if entry not in known]


def extend_study(
    study: StudyFolder,
    request: StudyRequest,
    losses: Sequence[LossSpec],
    further: Sequence[dict[str, Any]],
    warnings: Sequence[str],
    watcher: Watcher,
) -> None:
    """Add the runs of further losses and seeds to the plan of a study; those before keep their place."""
    settings = study.read_settings()
    watcher.say(f"{len(further)} runs more than the {len(settings['runs'])} that were planned")
    settings["losses"] = _described(losses)
    settings["seeds"] = _seeds(request)
    settings["preflight"] = list(warnings)
    settings["name"] = _name(settings["dataset"]["name"], losses)
    settings["command"] = request.command
    settings["runs"] += further
    write_json(study.settings, settings)


def begin_study(
    study: StudyFolder,
    request: StudyRequest,
    dataset: Dataset,
    fingerprint: Fingerprint,
    plan: Plan,
    folds: Sequence[Fold],
    losses: Sequence[LossSpec],
    budget: Budget,
    warnings: Sequence[str],
    watcher: Watcher,
    workers: Workers,
    here: bool,
) -> Plan:
    """Write folds, fingerprint and, last, the settings of a new study; return the plan, which the budget may change."""
    planned = _planned(_seeds(request), folds, losses)
    advance = watcher.stage("timing this machine", 1)

    def timed(plan: Plan) -> tuple[Machine, int]:
        precision = cast("Precision | None", request.precision)
        machine = measure_machine(
            plan,
            len(dataset.classes),
            len(planned),
            jobs=request.jobs,
            precision=precision,
            workers=workers,
            here=here,
        )
        return machine, budget.in_steps(machine.step_seconds, len(request.learning_rates or CANDIDATES))

    plan, machine, steps = fitting_network(plan, budget, timed)
    advance()
    watcher.say(
        f"{len(planned)} runs of {steps} steps, {machine.jobs} at once on {machine.device} "
        f"({machine.step_seconds * 1000:.0f} ms a step; {machine.precision}: {machine.precision_reason})"
    )
    write_json(
        study.root / "folds.json",
        {"folds": [{"fold": fold.index, "cases": list(fold.cases), "patients": list(fold.patients)} for fold in folds]},
    )
    write_json(study.root / "fingerprint.json", [jsonable(asdict(scan)) for scan in fingerprint.scans])
    packages = ("torch", "monai", "pytorch-ignite", "mlflow", "nibabel", "numpy", "scipy")
    settings = {
        "schema": 1,
        "segloss": pipeline.__version__,
        "name": _name(dataset.name, losses),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": request.identity(),
        "command": request.command,
        "dataset": {
            "path": str(request.dataset.resolve()),
            "name": dataset.name,
            "layout": dataset.layout,
            "cases": len(dataset.cases),
            "channels": list(dataset.channels),
            "classes": {str(value): dataset.classes[value] for value in sorted(dataset.classes)},
        },
        "losses": _described(losses),
        "preflight": list(warnings),
        "folds": len(folds),
        "seeds": _seeds(request),
        "budget": {"asked": request.budget, "steps": steps},
        "learning_rates": list(request.learning_rates or CANDIDATES),
        "learning_rate_search": SEARCH,
        "optimizer": OPTIMIZER,
        "schedule": SCHEDULE,
        "precision": machine.precision,
        "machine": asdict(machine),
        "plan": jsonable(asdict(plan)),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
        "cases": {
            case.id: {
                "images": [str(path.resolve()) for path in case.images],
                "label": str(case.label.resolve()) if case.label else None,
                "patient": case.patient,
            }
            for case in dataset.cases
        },
        "runs": planned,
    }
    write_json(study.settings, settings)
    return plan


def fitting_network(
    plan: Plan, budget: Budget, timed: Callable[[Plan], tuple[Machine, int]]
) -> tuple[Plan, Machine, int]:
    """Return the plan with the network that the budget pays for on this machine, with machine and steps of a training.

    `timed` returns both of a plan. On a GPU, where small networks wait for Python more than for multiplications, the
    finest network is taken wherever its steps take no more than `WORTH_A_STEM` times as long.
    """
    finest = budget_plans(plan)[-1]
    if budget.steps:
        plan = plan_for_budget(plan, budget.steps)
    machine, steps = timed(plan)
    if not budget.steps and (fitting := plan_for_budget(plan, steps)) != plan:
        plan = fitting
        machine, steps = timed(plan)
    if machine.device == "cuda" and finest.stem != plan.stem:
        fine, fine_steps = timed(finest)
        ratio = fine.seconds_a_run_step / machine.seconds_a_run_step
        if ratio < WORTH_A_STEM:
            reason = f"the first level at full resolution: its steps take {ratio:.2f} times those behind a stem here"
            return replace(finest, reasons={**finest.reasons, "network": reason}), fine, fine_steps
    return plan, machine, steps


def plan_as_begun(study: StudyFolder, plan: Plan) -> Plan:
    """Return the plan with the network that the budget of a study that exists gave it."""
    stored = study.read_settings()["plan"]
    same = (made for made in budget_plans(plan) if list(made.channels) == stored["channels"])
    return next(same, plan)


def _seeds(request: StudyRequest) -> list[int]:
    return [request.first_seed + i for i in range(request.seeds)]


def _planned(seeds: Sequence[int], folds: Sequence[Fold], losses: Sequence[LossSpec]) -> list[dict[str, Any]]:
    """Return all runs, seed after seed and fold after fold, so that losses can be compared early."""
    return [
        {"loss": spec.label, "fold": fold.index, "seed": seed} for seed in seeds for fold in folds for spec in losses
    ]


def _described(losses: Sequence[LossSpec]) -> list[dict[str, Any]]:
    from pipeline.losses.catalogue import formula_of

    return [
        {
            "name": spec.name,
            "label": spec.label,
            "spec": spec.text,
            "formula": formula_of(spec.name),
            "control": spec.control,
        }
        for spec in losses
    ]


def _name(dataset: str, losses: Sequence[LossSpec]) -> str:
    return f"{dataset}: {' vs '.join(spec.label for spec in losses)}"


def jsonable(value: Any) -> Any:
    """Return plain JSON values: tuples as lists, keys as strings."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
