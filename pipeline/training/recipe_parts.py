"""Recipes of which a user replaces the network, the optimizer or the schedule: how they are read, named and hashed."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.network.named_network import check_network
from pipeline.network.network_spec import NetworkSpec
from pipeline.records.study import RecipeRecord, StudyRecord
from pipeline.system.files import sha256_of_file
from pipeline.training.optimizer_choice import OptimizerChoice
from pipeline.training.recipe import Recipe, recipe_named
from pipeline.training.schedule import Schedule


def replace_parts(
    recipe: Recipe,
    network: str | None = None,
    weights: Path | None = None,
    optimizer: str | None = None,
    schedule: str | None = None,
) -> Recipe:
    """Return a recipe with other parts, and with a name that tells which.

    Parameters
    ----------
    recipe
        The recipe whose other parts remain.
    network
        Class and arguments as `NetworkSpec.parse` reads them; an empty text is the network of the plan.
    weights
        File of pretrained weights of the network.
    optimizer, schedule
        As `OptimizerChoice.parse` and `Schedule.parse` read them.

    Raises
    ------
    ConfigError
        If a text is malformed, names something unknown, or there are weights without a network.

    Examples
    --------
    >>> from pipeline.training.recipe import recipe_named
    >>> from pipeline.training.recipe_parts import replace_parts
    >>> replace_parts(recipe_named("fast"), network="SegResNet{init_filters=16}", optimizer="adam").name
    'fast with SegResNet{init_filters=16}, optimizer adam'
    """
    spec = recipe.network
    if network is not None:
        spec = NetworkSpec.parse(network)
    if spec is not None and spec.is_default:
        spec = None
    if weights is not None:
        if spec is None:
            raise ConfigError(
                f"--weights {weights}", "belong to no network", "name the class of their network with --network"
            )
        spec = replace(spec, weights=weights.absolute())
    changed = replace(
        recipe,
        network=spec,
        optimizer=recipe.optimizer if optimizer is None else OptimizerChoice.parse(optimizer),
        schedule=recipe.schedule if schedule is None else Schedule.parse(schedule),
    )
    return replace(changed, name=_name(recipe, changed))


def _name(recipe: Recipe, changed: Recipe) -> str:
    others = []
    if changed.network != recipe.network:
        others.append("the network of the plan" if changed.network is None else _network_label(changed.network))
    if changed.optimizer != recipe.optimizer:
        others.append(f"optimizer {changed.optimizer.text}")
    if changed.schedule != recipe.schedule:
        others.append(f"schedule {changed.schedule.text}")
    return f"{recipe.name} with {', '.join(others)}" if others else recipe.name


def _network_label(spec: NetworkSpec) -> str:
    weights = "" if spec.weights is None else f" and weights {spec.weights.name}"
    return f"{spec.label}{weights}"


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot train, as far as this is known without a dataset.

    The class of the network, the names of its arguments and its file of weights are checked; optimizer and schedule
    take a few steps. `pipeline.network.patch_fitting.fit_patch` checks the rest.

    Raises
    ------
    ConfigError
        If a part cannot be used.
    """
    if recipe.network is not None:
        check_network(recipe.network)
    weight = nn.Parameter(torch.ones(8, 8, 1, 1, 1))
    recipe.schedule.try_with(recipe.optimizer.build([weight], 1e-3))


def recipe_record(recipe: Recipe) -> RecipeRecord:
    """Return a recipe as the record of a study describes it."""
    spec = recipe.network
    weights = None if spec is None else spec.weights
    return RecipeRecord(
        name=recipe.name,
        network=None if spec is None else spec.text,
        weights=None if weights is None else str(weights),
        weights_sha256=None if weights is None else sha256_of_file(weights),
        optimizer=recipe.optimizer.text,
        schedule=recipe.schedule.text,
        sha256=recipe.sha256,
    )


def recorded_recipe(record: StudyRecord) -> Recipe:
    """Return the recipe that a study of our own engine was trained with.

    Raises
    ------
    ConfigError
        If it names an optimizer or schedule that is unknown here.
    """
    recipe = Recipe() if record.request.recipe is None else recipe_named(record.request.recipe)
    if (parts := record.recipe) is None:
        return recipe
    weights = None if parts.weights is None else Path(parts.weights)
    return replace_parts(recipe, parts.network or "", weights, parts.optimizer, parts.schedule)
