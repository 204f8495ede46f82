"""Recipes: known by name, and what each builds."""

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.training.optimizer import MuonAdamW
from pipeline.training.recipe import RECIPES, Recipe, recipe_named


def test_an_unknown_recipe_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="--recipes adam: is an unknown recipe") as refused:
        recipe_named("adam")
    assert all(name in str(refused.value) for name in RECIPES)


def test_the_default_recipe_is_the_first():
    assert recipe_named("fast") == Recipe()


@pytest.mark.parametrize(("name", "kind"), [("fast", MuonAdamW), ("adamw", torch.optim.AdamW)])
def test_a_recipe_builds_its_optimizer(name, kind):
    weights = [torch.nn.Parameter(torch.ones(8, 8, 3, 3, 3))]
    optimizer = recipe_named(name).optimizer.build(weights, 0.01)
    assert isinstance(optimizer, kind)
    schedule = recipe_named(name).schedule.build(optimizer, 0.01, 100)
    assert schedule.get_last_lr()[0] < 0.01


def test_all_recipes_search_over_as_many_rates():
    assert {len(recipe.optimizer.rates.candidates) for recipe in RECIPES.values()} == {3}
