"""`segloss study`: from a dataset to a verdict."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import pipeline
from pipeline.data.datalists import read_dataset
from pipeline.data.dataset import Case, Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.folds import Fold, make_folds
from pipeline.data.plan import Plan
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.errors import ConfigError, DatasetError, RecordError
from pipeline.files import remove_leftovers, write_json
from pipeline.lock import exclusive
from pipeline.records.folder import RunFolder, RunKey, StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.table import write_table
from pipeline.study.budget import Budget, validations
from pipeline.study.executor import run_here, run_locally
from pipeline.study.machine import Machine, measure_machine
from pipeline.study.race import dropped_losses
from pipeline.study.request import StudyRequest
from pipeline.training.inference import WINDOW_OVERLAP
from pipeline.training.learning_rate import CANDIDATES
from pipeline.training.losses import LossSpec, parse_losses
from pipeline.training.precision import Precision
from pipeline.training.preparation import PreparedCase, prepare_dataset
from pipeline.training.run import MAXIMUM_CURVE_CASES, RunSettings, forget_progress

PREPARED = "prepared"
"""Where prepared cases are kept inside a study that is given no other place."""


class Watcher(Protocol):
    """Whoever shows the progress of a study."""

    def say(self, text: str) -> None:
        """Show one line."""

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Begin a stage of `total` parts and return what is called after each."""

    def runs(self, total: int, done: int) -> None:
        """Begin the runs, of which some may be done already."""

    def run_step(self, key: RunKey, stage: str, done: int, of: int) -> None:
        """Show how far a stage of a run is."""

    def run_done(self, key: RunKey, record: Mapping[str, Any]) -> None:
        """Show the result of a run."""


class Quiet:
    """A watcher that shows nothing."""

    def say(self, text: str) -> None:
        """Show nothing."""

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Show nothing."""
        return lambda: None

    def runs(self, total: int, done: int) -> None:
        """Show nothing."""

    def run_step(self, key: RunKey, stage: str, done: int, of: int) -> None:
        """Show nothing."""

    def run_done(self, key: RunKey, record: Mapping[str, Any]) -> None:
        """Show nothing."""


def run_study(
    request: StudyRequest,
    watcher: Watcher | None = None,
    beside: Callable[[StudyFolder], AbstractContextManager[object]] | None = None,
    adjust: Callable[[Plan], Plan] = lambda plan: plan,
    here: bool = False,
) -> StudyFolder:
    """Carry out a study, or what is left of it, and write its table.

    Parameters
    ----------
    request
        What the user asks for.
    watcher
        Shows the progress.
    beside
        Gives what is entered while the runs go on, such as a mirror to MLflow.
    adjust
        Changes the plan, always in the same way, e.g. to a smaller network.
    here
        Do everything in this process, one run after the other: for studies so small that processes cost more.

    Raises
    ------
    ConfigError, DatasetError, RecordError
        Before any training, where the request cannot be carried out.
    """
    watcher = watcher or Quiet()
    losses = arms_of(request)
    budget = Budget.parse(request.budget)
    dataset = read_dataset(request.dataset)
    study = StudyFolder(request.out)
    part = request.part
    among_others = part is not None and part[0] > 0
    if part and part[0] and not study.settings.exists():
        raise RecordError(study.root, "holds no study to take a part of", f"begin it with --part 0/{part[1]}")
    with exclusive(study.root / f".part{part[0]}" if part and part[0] else study.root):
        if request.part is None:
            for folder in (study.root, study.root / PREPARED):
                remove_leftovers(folder)
        if study.settings.exists():
            _check_same(study, request, losses)
        cache = request.cache or study.root / PREPARED
        dataset, fingerprint = _scan(dataset, request.skip_bad, cache / "checked", watcher)
        plan = adjust(make_plan(dataset, fingerprint, request.memory_gib))
        _check_unchanged(study, fingerprint)
        folds = make_folds(dataset, fingerprint, request.folds, request.first_seed)
        hashes = {scan.case: scan.content_hash for scan in fingerprint.scans}
        warnings = _preflight(losses, fingerprint, plan, watcher)
        advance = watcher.stage("preparing", len(dataset.cases))
        prepared = prepare_dataset(dataset, plan, hashes, cache, workers=0 if here else None, on_case=advance)
        if not study.settings.exists():
            _begin(study, request, dataset, fingerprint, plan, folds, losses, budget, warnings, watcher, here)
        elif not among_others:
            _extend(study, request, folds, losses, warnings, watcher)
        if request.part is None or among_others:
            with beside(study) if beside else nullcontext():
                _train_all(study, request, dataset, fingerprint, plan, folds, losses, prepared, watcher, here)
        if request.part is None:
            write_table(study.cases, gather_cases(study))
    return study


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


def _scan(dataset: Dataset, skip_bad: bool, remembered: Path, watcher: Watcher) -> tuple[Dataset, Fingerprint]:
    """Return the usable part of a dataset; problems are said all at once and refuse it unless bad cases are skipped."""
    advance = watcher.stage("checking", len(dataset.cases))
    result = scan_dataset(dataset, on_case=advance, remembered=remembered)
    errors = result.errors
    refused = bool(errors) and not (skip_bad and result.dataset.cases)
    # A single problem stands in the refusal itself: one line.
    for problem in errors if len(errors) > 1 or not refused else ():
        watcher.say(problem.line())
    if refused:
        bad = len({problem.case for problem in errors})
        remedy = ("mend or remove them (listed above)" if len(errors) > 1 else "mend or remove it") + (
            ", or give --skip-bad to go on without" if result.dataset.cases else ""
        )
        raise DatasetError(
            dataset.root, f"{bad} of {len(dataset.cases)} cases cannot be used: {errors[0].line()}", remedy
        )
    if len(result.dataset.classes) < 2:
        raise DatasetError(dataset.root, "the labels hold no class but the background", "give labels with foreground")
    return result.dataset, result.fingerprint


def _preflight(losses: Sequence[LossSpec], fingerprint: Fingerprint, plan: Plan, watcher: Watcher) -> tuple[str, ...]:
    """Say what each loss's user should know before days of training, and return it."""
    from pipeline.training.preflight import preflight

    arms = [spec for spec in losses if not spec.control]
    lines = tuple(item.line() for item in preflight(arms, list(fingerprint.class_voxels().values()), plan))
    for line in lines:
        watcher.say(line)
    return lines


def _check_same(study: StudyFolder, request: StudyRequest, losses: Sequence[LossSpec]) -> None:
    """Refuse to continue a study with another request; more losses and seeds than before extend it."""
    settings = study.read_settings()
    stored, asked = settings["request"], json.loads(json.dumps(request.identity()))
    different = [f"{name} {stored.get(name)} → {asked[name]}" for name in asked if stored.get(name) != asked[name]]
    specs = {spec.label: spec.spec for spec in losses}
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


def _check_unchanged(study: StudyFolder, fingerprint: Fingerprint) -> None:
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


def _seeds(request: StudyRequest) -> list[int]:
    return [request.first_seed + i for i in range(request.seeds)]


def _planned(seeds: Sequence[int], folds: Sequence[Fold], losses: Sequence[LossSpec]) -> list[dict[str, Any]]:
    """Return all runs, seed after seed and fold after fold, so that losses can be compared early."""
    return [
        {"loss": spec.label, "fold": fold.index, "seed": seed} for seed in seeds for fold in folds for spec in losses
    ]


def _described(losses: Sequence[LossSpec]) -> list[dict[str, Any]]:
    from pipeline.training.losses.catalogue import formula_of

    return [
        {
            "name": spec.name,
            "label": spec.label,
            "spec": spec.spec,
            "formula": formula_of(spec.name),
            "control": spec.control,
        }
        for spec in losses
    ]


def _name(dataset: str, losses: Sequence[LossSpec]) -> str:
    return f"{dataset}: {' vs '.join(spec.label for spec in losses)}"


def _extend(
    study: StudyFolder,
    request: StudyRequest,
    folds: Sequence[Fold],
    losses: Sequence[LossSpec],
    warnings: Sequence[str],
    watcher: Watcher,
) -> None:
    """Add the runs of further losses and seeds to the plan of a study; those before keep their place."""
    settings = study.read_settings()
    known = [(entry["loss"], entry["fold"], entry["seed"]) for entry in settings["runs"]]
    further = [
        entry
        for entry in _planned(_seeds(request), folds, losses)
        if (entry["loss"], entry["fold"], entry["seed"]) not in known
    ]
    if not further:
        return
    watcher.say(f"{len(further)} runs more than the {len(known)} that were planned")
    settings["losses"] = _described(losses)
    settings["seeds"] = _seeds(request)
    settings["preflight"] = list(warnings)
    settings["name"] = _name(settings["dataset"]["name"], losses)
    settings["command"] = request.command
    settings["runs"] += further
    write_json(study.settings, settings)


def _begin(
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
    here: bool,
) -> None:
    """Write folds, fingerprint and, last, the settings of a new study."""
    planned = _planned(_seeds(request), folds, losses)
    advance = watcher.stage("timing this machine", 1)
    precision = cast("Precision | None", request.precision)
    machine = measure_machine(
        plan, len(dataset.classes), len(planned), jobs=request.jobs, precision=precision, here=here
    )
    advance()
    steps = budget.in_steps(machine.step_seconds, len(request.learning_rates or CANDIDATES))
    watcher.say(
        f"{len(planned)} runs of {steps} steps, {machine.jobs} at once on {machine.device} "
        f"({machine.step_seconds * 1000:.0f} ms a step; {machine.precision}: {machine.precision_reason})"
    )
    write_json(
        study.root / "folds.json",
        {"folds": [{"fold": fold.index, "cases": list(fold.cases), "patients": list(fold.patients)} for fold in folds]},
    )
    write_json(study.root / "fingerprint.json", [_jsonable(asdict(scan)) for scan in fingerprint.scans])
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
        "precision": machine.precision,
        "machine": asdict(machine),
        "plan": _jsonable(asdict(plan)),
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


def _train_all(
    study: StudyFolder,
    request: StudyRequest,
    dataset: Dataset,
    fingerprint: Fingerprint,
    plan: Plan,
    folds: Sequence[Fold],
    losses: Sequence[LossSpec],
    prepared: Mapping[str, PreparedCase],
    watcher: Watcher,
    here: bool,
) -> None:
    """Carry out the runs that have no record yet."""
    settings = study.read_settings()
    if settings["plan"] != json.loads(json.dumps(_jsonable(asdict(plan)))):
        raise RecordError(study.root, "the dataset or its plan has changed since the study began", "give another --out")
    stored_machine = Machine(**settings["machine"])
    originals = {case.id: case for case in dataset.cases}
    specs = {spec.label: spec for spec in losses}
    by_index = {fold.index: fold for fold in folds}
    waiting: list[tuple[RunSettings, RunFolder]] = []
    everything = list(study.runs())
    if request.part:
        everything = everything[request.part[0] - 1 :: request.part[1]]
    for folder in everything:
        if folder.record.exists():
            forget_progress(folder)
        else:
            fold = by_index[folder.key.fold]
            run_settings = _settings_of(
                folder.key,
                specs[folder.key.loss],
                fold,
                dataset,
                fingerprint,
                plan,
                prepared,
                originals,
                settings,
                request,
            )
            waiting.append((run_settings, folder))
    watcher.runs(len(everything), len(everything) - len(waiting))
    race = _Race(study, watcher) if request.race else None
    if waiting:
        jobs = request.jobs or stored_machine.jobs

        def done(key: RunKey) -> None:
            watcher.run_done(key, json.loads(study.run(key).record.read_text(encoding="utf-8")))
            if race:
                race.look()

        wanted = race.keeps if race else (lambda key: True)
        if here:
            run_here(waiting, watcher.run_step, done, wanted)
        elif request.executor == "ray":
            from pipeline.study.ray_executor import run_on_ray

            run_on_ray(waiting, jobs, watcher.run_step, done, wanted, address=request.address)
        else:
            run_locally(waiting, jobs, watcher.run_step, done, wanted, watcher.say)


class _Race:
    """The losses that are out, kept in the study's settings for the report."""

    def __init__(self, study: StudyFolder, watcher: Watcher) -> None:
        self.study, self.watcher = study, watcher
        self.dropped: dict[str, str] = study.read_settings().get("dropped", {})
        self.look()

    def keeps(self, key: RunKey) -> bool:
        """Whether a run's loss is still in the race."""
        return key.loss not in self.dropped

    def look(self) -> None:
        """Drop what is clearly behind by now."""
        settings = self.study.read_settings()
        table = gather_cases(self.study)
        if table.empty:
            return
        blocks = list(dict.fromkeys((entry["fold"], entry["seed"]) for entry in settings["runs"]))
        dropped = dropped_losses(table, [entry["label"] for entry in settings["losses"]], blocks)
        for loss in dropped.keys() - self.dropped.keys():
            self.watcher.say(f"{loss} is out: {dropped[loss]}")
        if dropped != self.dropped:
            self.dropped = dropped
            write_json(self.study.settings, settings | {"dropped": dropped})


def _settings_of(
    key: RunKey,
    spec: LossSpec,
    fold: Fold,
    dataset: Dataset,
    fingerprint: Fingerprint,
    plan: Plan,
    prepared: Mapping[str, PreparedCase],
    originals: Mapping[str, Case],
    settings: Mapping[str, Any],
    request: StudyRequest,
) -> RunSettings:
    held_out = set(fold.cases)
    fitting = [case for case in dataset.cases if case.id not in held_out]
    scans = {scan.case: scan for scan in fingerprint.scans}
    values = sorted(dataset.classes)
    voxels = [
        sum(scans[case.id].classes[value].voxels for case in fitting if value in scans[case.id].classes)
        for value in values
    ]
    curve_shapes = [prepared[case_id].shape for case_id in fold.cases[:MAXIMUM_CURVE_CASES]]
    return RunSettings(
        loss=spec,
        fold=key.fold,
        seed=key.seed,
        plan=plan,
        classes=dataset.foreground,
        class_voxels=tuple(voxels),
        training=tuple(prepared[case.id] for case in fitting),
        patients=tuple(case.patient for case in fitting),
        validation=tuple(prepared[case.id] for case in dataset.cases if case.id in held_out),
        originals={case_id: originals[case_id] for case_id in fold.cases},
        steps=settings["budget"]["steps"],
        validations=validations(settings["budget"]["steps"], plan, curve_shapes, WINDOW_OVERLAP),
        precision=settings["precision"],
        learning_rates=tuple(settings["learning_rates"]),
        threads=settings["machine"]["threads"],
        device=settings["machine"]["device"],
        keep_predictions=request.keep_predictions,
    )


def _jsonable(value: Any) -> Any:
    """Return plain JSON values: tuples as lists, keys as strings."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_jsonable(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value
