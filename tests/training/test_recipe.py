"""Recipes: known by name, and what each builds."""

from dataclasses import fields, replace
from operator import attrgetter

import pytest
import torch

import pipeline.training
from pipeline.errors import ConfigError
from pipeline.network.network_spec import NetworkSpec
from pipeline.training.augmentation import NO_AUGMENTATION
from pipeline.training.optimizer import MuonAdamW
from pipeline.training.optimizer_choice import NamedOptimizer, OptimizerChoice, Rates
from pipeline.training.patch_sampling import Sampling
from pipeline.training.recipe import RECIPES, Recipe, recipe_named
from pipeline.training.schedule import Schedule


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


def test_the_hash_changes_with_every_part():
    changes = {
        "network": NetworkSpec.parse("SegResNet"),
        "optimizer": OptimizerChoice("sgd"),
        "schedule": Schedule("constant"),
        "sampling": Sampling(0.33),
        "augmentation": NO_AUGMENTATION,
        "deep_supervision": True,
        "batch_dice": True,
        "weight_average": False,
    }
    assert {"name", *changes} == {field.name for field in fields(Recipe)}
    hashes = {Recipe().sha256, *(replace(Recipe(), **{name: value}).sha256 for name, value in changes.items())}
    assert len(hashes) == len(changes) + 1
    assert replace(Recipe(), name="other").sha256 in hashes


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [
        (
            "optimizer_choice.OPTIMIZERS",
            "muon",
            NamedOptimizer("pipeline.training.optimizer.MuonAdamW", {"eps": 1}, Rates((1,), 1)),
        ),
        ("schedule.SCHEDULES", "one_cycle", ("torch.optim.lr_scheduler.OneCycleLR", {"pct_start": 0.2})),
    ],
)
def test_the_hash_changes_with_a_default_of_a_named_part(table, name, value, monkeypatch):
    before = Recipe().sha256
    monkeypatch.setitem(attrgetter(table)(pipeline.training), name, value)
    assert Recipe().sha256 != before


def test_recipes_have_different_hashes():
    assert len({recipe.sha256 for recipe in RECIPES.values()}) == len(RECIPES)
