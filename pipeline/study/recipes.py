"""Carry out one study for each of several recipes, on the same cases, folds and seeds."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import StudyFolder
from pipeline.records.recipes import RecipesFolder, RecipesRecord
from pipeline.study.progress import Progress, SilentProgress
from pipeline.study.request import DEFAULT_RECIPE, StudyRequest
from pipeline.study.run import CHECKED, run_study
from pipeline.system.files import remove_leftovers, write_json
from pipeline.system.folder_lock import exclusive


def run_recipes(
    request: StudyRequest,
    recipes: Sequence[str],
    progress: Progress | None = None,
    on_begin: Callable[[StudyFolder], None] | None = None,
    on_study: Callable[[RecipesFolder, StudyFolder], None] = lambda folder, study: None,
    in_process: bool = False,
) -> RecipesFolder:
    """Carry out the studies of several recipes, or the rest of them.

    All studies are created before the first training, so that a recipe that does not fit is refused early. Recipes of
    earlier requests that this one does not name stay as they are.

    Parameters
    ----------
    request
        Arguments of every study; `out` is the folder of all studies, and `recipe` is ignored.
    recipes
        Names of the recipes, in the order in which they are carried out.
    progress
        Receives the progress of all studies; None for silence.
    on_begin
        Called at the beginning of each study, as by `run_study`.
    on_study
        Called after each study.
    in_process
        Do everything in this process, as for `run_study`.

    Raises
    ------
    ConfigError, DatasetError, RecordError
        Before any training, if the request cannot be carried out.
    TrainingError
        If a run cannot be completed. The same request continues.
    """
    progress = progress or SilentProgress()
    if request.replaced_parts:
        raise ConfigError(
            f"--{request.replaced_parts[0]}",
            "cannot be used in a folder of several recipes, since each has its own",
            "give one recipe and another --out, or leave the option out",
        )
    folder = RecipesFolder(request.out)
    requests = {name: _request_of(folder, request, name) for name in recipes}
    if StudyFolder(folder.root).settings.exists():
        raise RecordError(folder.root, "holds a study of a single recipe", "use another --out for several recipes")
    part = request.part[0] if request.part else None
    with ExitStack() as locks:
        if not part:  # Parts run beside each other; each locks the studies itself.
            locks.enter_context(exclusive(folder.root))
            for place in (folder.root, folder.prepared, folder.prepared / CHECKED):
                remove_leftovers(place)
            record = _record_of(folder, request, recipes)
            for name, study_request in requests.items():
                if not folder.study(name).settings.exists():
                    progress.message(f"recipe {name}: creating its study")
                    run_study(replace(study_request, part=(0, 1)), progress, in_process=in_process)
            check_same_folds(folder, record.recipes)
            # The record comes after the studies: a request that one of them refuses leaves no settings behind.
            write_json(folder.settings, record.to_json())
        for index, (name, study_request) in enumerate(requests.items(), start=1):
            if part == 0:
                break
            progress.message(f"recipe {index} of {len(requests)}: {name}")
            study = run_study(study_request, progress, on_begin, in_process=in_process)
            if part is None:
                on_study(folder, study)
    return folder


def _request_of(folder: RecipesFolder, request: StudyRequest, recipe: str) -> StudyRequest:
    """Return the request of one study. All studies share the cache of prepared cases."""
    cache = request.cache or folder.prepared
    return replace(request, recipe=recipe, out=folder.study(recipe).root, cache=cache)


def _record_of(folder: RecipesFolder, request: StudyRequest, recipes: Sequence[str]) -> RecipesRecord:
    """Return the settings; the recipes of an existing folder come first, then those that the request adds.

    Raises
    ------
    RecordError
        If the folder holds studies with other settings.
    """
    # The recipe is part of the identity of a study, but not of the folder: here, all requests have the default one.
    identity = replace(request, recipe=DEFAULT_RECIPE).identity()
    known: tuple[str, ...] = ()
    if folder.settings.exists():
        record = folder.read_record()
        stored, requested = record.request.model_dump(mode="json"), identity.model_dump(mode="json")
        differences = [
            f"{name} {stored.get(name)} → {value}" for name, value in requested.items() if stored.get(name) != value
        ]
        if differences:
            raise RecordError(
                folder.root,
                f"holds studies with other settings ({'; '.join(differences)})",
                "use another --out, or the same settings",
            )
        known = record.recipes
    names = (*known, *(name for name in recipes if name not in known))
    return RecipesRecord(schema=1, recipes=names, request=identity, command=request.command)


def check_same_folds(folder: RecipesFolder, recipes: Sequence[str]) -> None:
    """Refuse studies whose folds differ: their results could not be paired.

    Raises
    ------
    RecordError
        If two studies have different cases or folds.
    """
    first: tuple[str, bytes] | None = None
    for recipe in recipes:
        path = folder.study(recipe).folds
        if not path.exists():
            continue
        content = path.read_bytes()
        if first is not None and content != first[1]:
            raise RecordError(
                folder.root,
                f"the cases or folds of {recipe} differ from those of {first[0]}",
                "restore the dataset, or use another --out",
            )
        first = first or (recipe, content)
