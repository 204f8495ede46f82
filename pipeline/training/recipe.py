"""Recipes: named combinations of everything in a training but the loss."""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from torch import nn

from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, build_loss
from pipeline.losses.deep_supervision import DeeplySupervised, use_batch_overlap
from pipeline.network.deep_supervision import return_all_resolutions
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.nnunet_network import PACKAGE, PLAIN_CONV_UNET, is_from_package
from pipeline.training.augmentation import NO_AUGMENTATION, AugmentationRanges
from pipeline.training.nnunet_augmentation import NnUNetRanges
from pipeline.training.optimizer_choice import OptimizerChoice
from pipeline.training.patch_sampling import Sampling
from pipeline.training.schedule import Schedule

ALWAYS_DEFINED = frozenset({"network", "optimizer", "schedule"})
"""Parts that every definition of a recipe names."""


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
    sampling
        Share of patches on foreground.
    augmentation
        Augmentation with its probabilities and ranges.
    deep_supervision
        True if the loss is also computed at lower resolutions, for a network that returns them.
    batch_dice
        True if overlap losses count the voxels of the whole batch, not of each image.
    weight_average
        True if validation and prediction use a moving average of the weights.
    """

    name: str = "fast"
    network: NetworkSpec | None = None
    optimizer: OptimizerChoice = field(default_factory=OptimizerChoice)
    schedule: Schedule = field(default_factory=Schedule)
    sampling: Sampling = field(default_factory=Sampling)
    augmentation: AugmentationRanges | NnUNetRanges = field(default_factory=AugmentationRanges)
    deep_supervision: bool = False
    batch_dice: bool = False
    weight_average: bool = True

    @property
    def definition(self) -> str:
        """The parts of the recipe, with the arguments that its named parts stand for, one a line; its name is no part.

        Network, optimizer and schedule are always named. Other parts are named where they are not those of the default
        recipe, so that a new part leaves the definitions of earlier recipes as they are.
        """
        default = Recipe()
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "name"}
        return "\n".join(
            f"{name}: {getattr(part, 'definition', part)}"
            for name, part in parts.items()
            if name in ALWAYS_DEFINED or part != getattr(default, name)
        )

    @property
    def sha256(self) -> str:
        """The SHA-256 of `definition`, in hexadecimal digits."""
        return hashlib.sha256(self.definition.encode()).hexdigest()

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """Packages of the extra ``nnunet`` that the recipe needs and that are not installed."""
        needed = [PACKAGE] if self.network is not None and is_from_package(self.network) else []
        needed += ["batchgeneratorsv2"] if isinstance(self.augmentation, NnUNetRanges) else []
        return tuple(name for name in needed if importlib.util.find_spec(name) is None)

    def supervised(self, network: nn.Module) -> nn.Module:
        """Return a network after a change that lets it return what `build_loss` expects in training."""
        if self.deep_supervision:
            return_all_resolutions(network)
        return network

    def build_loss(self, spec: LossSpec, class_voxels: Sequence[int]) -> nn.Module:
        """Return a loss as this recipe computes it; see `pipeline.losses.build_loss`.

        It is called with the output of the network, logits (B, K, *patch) or a tuple of logits from full resolution
        downwards, and with class indices (B, 1, *patch).

        Raises
        ------
        ConfigError
            If the loss cannot be built.
        """
        loss = build_loss(spec, class_voxels)
        if self.batch_dice:
            use_batch_overlap(loss)
        return DeeplySupervised(loss) if self.deep_supervision else loss


MONAI_UNET = NetworkSpec.parse("UNet{channels=[16,32,64,128,256],strides=[2,2,2,2],num_res_units=2,norm=BATCH}")
"""The U-Net of MONAI's tutorial ``spleen_segmentation_3d``."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        Recipe("adamw", optimizer=OptimizerChoice("adamw")),
        Recipe(
            "nnunet",
            network=PLAIN_CONV_UNET,
            optimizer=OptimizerChoice("sgd"),
            schedule=Schedule("polynomial"),
            sampling=Sampling(foreground_share=0.33, last_of_batch=True),
            augmentation=NnUNetRanges(),
            deep_supervision=True,
            batch_dice=True,
            weight_average=False,
        ),
        Recipe(
            "monai",
            network=MONAI_UNET,
            optimizer=OptimizerChoice("adam"),
            schedule=Schedule("constant"),
            augmentation=NO_AUGMENTATION,
            weight_average=False,
        ),
    )
}
"""Recipes by name. ``fast`` is the default, and ``adamw`` differs from it in its optimizer alone. ``nnunet`` is that of
nnU-Net, and ``monai`` that of MONAI's tutorials.
"""


def recipe_named(name: str) -> Recipe:
    """Return a recipe by its name.

    Raises
    ------
    ConfigError
        If the name is not in `RECIPES`, or if the recipe needs packages that are not installed.

    Examples
    --------
    >>> from pipeline.training.recipe import recipe_named
    >>> recipe_named("adamw").optimizer.rates.default
    0.003
    """
    if name not in RECIPES:
        raise ConfigError(f"--recipes {name}", "is an unknown recipe", f"use {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    if recipe.missing_packages:
        raise ConfigError(
            f"--recipes {name}", f"needs {' and '.join(recipe.missing_packages)}", "pip install 'segloss[nnunet]'"
        )
    return recipe
