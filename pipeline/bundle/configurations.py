"""Every configuration of an exported bundle, as a function of its specification.

`segloss export` writes what this module returns, and opening a bundle compares the files with it. So a bundle cannot
hold a target, an argument, an expression or a value that `segloss export` would not have written.
"""

from pipeline.bundle import configs, training_configs
from pipeline.bundle.configs import Config
from pipeline.bundle.recipe import Recipe
from pipeline.bundle.specification import BundleSpec


def configurations(spec: BundleSpec, recipe: Recipe) -> dict[str, Config]:
    """Return the content of each file of ``configs`` except ``metadata.json``, by name without suffix."""
    plan = recipe.plan(spec.spacing_mm, spec.batch)
    train = training_configs.training(plan, spec, recipe.loss, dict(recipe.loss_arguments))
    if "class_weights" in train and recipe.class_weights:
        train["class_weights"] = list(recipe.class_weights)
    return {
        "inference": configs.inference(plan, spec, recipe.keep_largest),
        "train": train,
        "evaluate": training_configs.evaluation(plan, spec),
        "multi_gpu_train": training_configs.multi_gpu(),
        "tracking_mlflow": training_configs.tracking(),
    }
