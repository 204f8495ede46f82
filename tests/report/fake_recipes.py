"""Write a folder of fake studies of several recipes with known differences between losses."""

import json
import shutil
from pathlib import Path

from fake_study import write_fake_study

from pipeline.records.recipes import RecipesFolder

NOISE = {"fast": (0.9, 0.8, 1.5), "adamw": (0.8, 1.2, 1.5), "nnunet": (0.9, 0.8, 1.5)}
"""Noise of the masks of each loss (dice, dice_ce, weighted_ce) under each recipe."""


def write_fake_recipes(root: Path, recipes=("fast", "adamw"), waiting=(), **design) -> RecipesFolder:
    """Write a folder of studies; those of `waiting` have no run. `design` is that of `write_fake_study`."""
    folder = RecipesFolder(root / "out")
    for recipe in recipes:
        study = write_fake_study(root / recipe, noise=NOISE[recipe], **design)
        folder.study(recipe).root.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(study.root, folder.study(recipe).root)
    record = {
        "schema": 1,
        "recipes": [*recipes, *waiting],
        "request": {"dataset": "DATASET", "folds": 3, "budget": "800steps"},
        "command": f"whichloss study DATASET --recipes {','.join([*recipes, *waiting])} --out OUT",
    }
    folder.settings.write_text(json.dumps(record))
    return folder
