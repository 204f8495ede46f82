"""The recipe of a request: a named one, with the parts that the user replaces."""

from pipeline.study.request import StudyRequest
from pipeline.training.recipe import Recipe, recipe_named
from pipeline.training.recipe_parts import check_recipe, replace_parts


def requested_recipe(request: StudyRequest) -> Recipe:
    """Return the recipe of a request, checked as far as this is possible without its dataset.

    Raises
    ------
    ConfigError
        If the recipe or one of its parts is unknown or cannot train, or has no learning rates to try.
    """
    recipe = replace_parts(
        recipe_named(request.recipe), request.network, request.weights, request.optimizer, request.schedule
    )
    check_recipe(recipe)
    if request.learning_rates is None:
        _ = recipe.optimizer.rates  # Raises an error for a class without a default learning rate.
    return recipe
