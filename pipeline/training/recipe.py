"""Recipes: named combinations of everything in a training but the loss."""

from dataclasses import dataclass, field

from pipeline.errors import ConfigError
from pipeline.network.network_spec import NetworkSpec
from pipeline.training.optimizer_choice import OptimizerChoice
from pipeline.training.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    name
        Name in `RECIPES`, with the parts that a user has replaced (`pipeline.training.recipe_parts`).
    network
        The network; None for that of the plan.
    optimizer
        Optimizer, with the learning rates that the search tries.
    schedule
        Course of the learning rate.
    """

    name: str = "fast"
    network: NetworkSpec | None = None
    optimizer: OptimizerChoice = field(default_factory=OptimizerChoice)
    schedule: Schedule = field(default_factory=Schedule)


RECIPES = {recipe.name: recipe for recipe in (Recipe(), Recipe("adamw", optimizer=OptimizerChoice("adamw")))}
"""Recipes by name. ``fast`` is the default; ``adamw`` differs in its optimizer alone."""


def recipe_named(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises
    ------
    ConfigError
        If the name is not in `RECIPES`.

    Examples
    --------
    >>> from pipeline.training.recipe import recipe_named
    >>> recipe_named("adamw").optimizer.rates.default
    0.003
    """
    if name not in RECIPES:
        raise ConfigError(f"--recipes {name}", "is an unknown recipe", f"use {', '.join(RECIPES)}")
    return RECIPES[name]
