"""Continuation of a study: checks that it is still the same study, and its extension by losses and seeds."""

from collections.abc import Sequence

from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.errors import RecordError
from pipeline.losses import LossSpec
from pipeline.records.folder import StudyFolder
from pipeline.records.study import (
    PlannedRun,
    PlanRecord,
    RecipeRecord,
    StudyRecord,
    read_study,
    stored_content_hashes,
    write_study,
)
from pipeline.study.arms import arm_records, study_name
from pipeline.study.context import StudyContext
from pipeline.study.progress import Progress
from pipeline.study.request import StudyRequest
from pipeline.study.requested_recipe import requested_recipe
from pipeline.study.unknown_labels import annotated_names
from pipeline.training.learning_rate import SEARCH
from pipeline.training.recipe import Recipe
from pipeline.training.recipe_parts import recipe_record, recorded_recipe
from pipeline.training.schedule import SCHEDULE

FIRST_OPTIMIZER, FIRST_SEARCH = "AdamW", "hard Dice"
"""Optimizer and measure of the search in studies of versions that did not record them."""

MOST_NAMED_CASES = 5


def read_matching_study(study: StudyFolder, request: StudyRequest, arms: Sequence[LossSpec]) -> StudyRecord:
    """Return the record of a study that the request continues; more losses and seeds than before extend it.

    Raises
    ------
    RecordError
        If the study cannot be read, or has other settings.
    """
    record = read_study(study)
    stored, requested = record.request.model_dump(mode="json"), request.identity().model_dump(mode="json")
    differences = [f"{name} {stored[name]} → {value}" for name, value in requested.items() if stored[name] != value]
    if record.trainer is None:
        differences += _differences_of_engine(record, requested_recipe(request))
    specs = {spec.label: spec.text for spec in arms}
    missing = [arm.label for arm in record.losses if specs.get(arm.label) != arm.spec]
    if missing:
        differences.append(f"without {', '.join(missing)}")
    if request.seeds < len(record.seeds):
        differences.append(f"seeds {len(record.seeds)} → {request.seeds}")
    if differences:
        raise RecordError(
            study.root,
            f"holds a study with other settings ({'; '.join(differences)})",
            "use another --out, or the same settings",
        )
    return record


def _differences_of_engine(record: StudyRecord, recipe: Recipe) -> list[str]:
    """Return how the recipe and our own engine have changed since the study began."""
    differences = _differences_of_recipe(record, recipe)
    search = record.learning_rate_search or FIRST_SEARCH
    if len(record.learning_rates) > 1 and search != SEARCH:
        differences.append(f"search over learning rates by {search} → by {SEARCH}")
    return differences


def _differences_of_recipe(record: StudyRecord, recipe: Recipe) -> list[str]:
    """Return the parts of the recipe that differ from those of the study, or the hash of it if only that differs."""
    own, present = recorded_recipe(record), recipe_record(recipe)
    stored = record.recipe or RecipeRecord()
    pairs = [
        ("network", *(one.network.text if one.network else "that of the plan" for one in (own, recipe))),
        ("weights", _shortened(stored.weights_sha256), _shortened(present.weights_sha256)),
        ("optimizer", record.optimizer or FIRST_OPTIMIZER, recipe.optimizer.description),
        ("schedule", record.schedule or SCHEDULE, recipe.schedule.for_budgets(record.budget.smaller).description),
    ]
    if stored.sha256 is not None and all(before == now for _, before, now in pairs):
        pairs.append(("definition of the recipe", _shortened(stored.sha256), _shortened(present.sha256)))
    return [f"{name} {before} → {now}" for name, before, now in pairs if before != now]


def _shortened(sha256: str | None) -> str:
    return "none" if sha256 is None else f"with SHA-256 {sha256[:12]}…"


def check_same_files(study: StudyFolder, fingerprint: Fingerprint) -> None:
    """Refuse to continue a study whose files have changed: half of its runs were trained on the earlier ones.

    Raises
    ------
    RecordError
        If a case was added, removed or changed since the study began.
    """
    stored = stored_content_hashes(study)
    present = {scan.case: scan.content_hash for scan in fingerprint.scans}
    changed = sorted(case for case in stored.keys() | present.keys() if stored.get(case) != present.get(case))
    if changed:
        names = ", ".join(changed[:MOST_NAMED_CASES]) + (", …" if len(changed) > MOST_NAMED_CASES else "")
        raise RecordError(
            study.root,
            f"began with other files of {len(changed)} case(s): {names}",
            "restore them, or use another --out",
        )


def check_same_annotation(study: StudyFolder, record: StudyRecord, dataset: Dataset) -> None:
    """Refuse to continue a study after a change of the ignore label or of the classes that cases were annotated for.

    Raises
    ------
    RecordError
        If what is known of some label has changed since the study began.
    """
    began = {case: (record.dataset.ignore_label, files.annotated) for case, files in record.cases.items()}
    present = {case.id: (case.annotation.ignore, annotated_names(case, dataset)) for case in dataset.cases}
    changed = sorted(case for case in began.keys() & present.keys() if began[case] != present[case])
    if changed:
        raise RecordError(
            study.root,
            f"began with another ignore label or other annotated classes of {len(changed)} case(s), e.g. {changed[0]}",
            "restore dataset.json and annotated.json, or use another --out",
        )


def check_same_plan(present: PlanRecord, record: StudyRecord, study: StudyFolder) -> None:
    """Refuse to continue a study whose plan has changed; the reasons of the plan may differ.

    Raises
    ------
    RecordError
        If the plan differs, for example because another version computes other metrics.
    """
    stored, now = (plan.to_json() | {"reasons": {}} for plan in (record.plan, present))
    # Versions without test-time augmentation did not record it.
    if {"tta": False} | stored != {"tta": False} | now:
        raise RecordError(
            study.root,
            "the dataset or its plan has changed since the study began",
            "use another --out; results of versions with other metrics cannot be mixed",
        )


def missing_runs(record: StudyRecord, context: StudyContext) -> tuple[PlannedRun, ...]:
    """Return the requested runs that the record does not plan."""
    planned = {run.key for run in record.runs}
    return tuple(run for run in context.runs if run.key not in planned)


def extend_study(
    record: StudyRecord,
    context: StudyContext,
    further: Sequence[PlannedRun],
    warnings: Sequence[str],
    progress: Progress,
) -> StudyRecord:
    """Append the runs of further losses and seeds to the plan, write the record and return it."""
    progress.message(f"{len(further)} runs more than the {len(record.runs)} that were planned")
    extended = record.model_copy(
        update={
            "losses": arm_records(context.arms),
            "seeds": context.request.all_seeds,
            "preflight": tuple(warnings),
            "name": study_name(record.dataset.name, context.arms),
            "command": context.request.command,
            "runs": (*record.runs, *further),
        }
    )
    write_study(context.folder, extended)
    return extended
