"""The settings from which, with the rest of the specification, every configuration of a bundle is computed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.bundle.losses import ARGUMENTS, LOSSES
from pipeline.data.plan import Normalization, Plan

MAXIMUM_LEVELS = 9

Finite = Annotated[float, Field(ge=-1e9, le=1e9)]
Stride = Annotated[int, Field(ge=1, le=7)]
Strides = tuple[Stride, Stride, Stride]
Edge = Annotated[int, Field(ge=1, le=1024)]


class Recipe(BaseModel):
    """Network, preprocessing, post-processing and loss of a bundle; axes in R, A, S order.

    `patch` is the training patch in voxels. `features` (one per level), `strides` and `stem` define the network,
    as `channels`, `strides` and `stem` of `pipeline.data.plan.Plan` do. `normalisation` and the intensity values
    have one entry per channel. `keep_largest` lists the indices of the classes reduced to their largest component.
    `class_weights` (background first) is set for weighted losses.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    patch: tuple[Edge, Edge, Edge]
    normalisation: tuple[Normalization, ...] = Field(min_length=1, max_length=64)
    intensity_range: tuple[tuple[Finite, Finite], ...]
    intensity_mean: tuple[Finite, ...]
    intensity_std: tuple[Finite, ...]
    features: tuple[Edge, ...] = Field(min_length=1, max_length=MAXIMUM_LEVELS)
    strides: tuple[Strides, ...]
    stem: Strides
    keep_largest: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    loss: str
    loss_arguments: dict[str, Finite | tuple[Finite, ...]] = {}
    class_weights: tuple[Finite, ...] = ()

    @field_validator("loss")
    @classmethod
    def _loss_is_known(cls, loss: str) -> str:
        if loss not in LOSSES:
            raise ValueError(f"must be one of {', '.join(LOSSES)}")
        return loss

    @field_validator("loss_arguments")
    @classmethod
    def _arguments_are_known(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(set(arguments) - ARGUMENTS):
            raise ValueError(f"{unknown[0]!r:.40} is not an argument of a loss")
        return arguments

    @model_validator(mode="after")
    def _lengths_agree(self) -> "Recipe":
        channels = len(self.normalisation)
        if any(len(values) != channels for values in (self.intensity_range, self.intensity_mean, self.intensity_std)):
            raise ValueError("intensity values must have one entry per channel")
        if len(self.strides) != len(self.features) - 1:
            raise ValueError("strides must have one entry fewer than features")
        if list(self.keep_largest) != sorted(set(self.keep_largest)):
            raise ValueError("keep_largest must ascend")
        return self

    def plan(self, spacing_mm: tuple[float, float, float], batch: int) -> Plan:
        """Return the plan of the study, as far as the configurations of a bundle depend on it."""
        return Plan(
            spacing_mm=spacing_mm,
            patch=self.patch,
            batch=batch,
            normalisation=self.normalisation,
            intensity_range=self.intensity_range,
            intensity_mean=self.intensity_mean,
            intensity_std=self.intensity_std,
            channels=self.features,
            strides=self.strides,
            stem=self.stem,
            tolerance_mm=1.0,
            metrics=(),
            reasons={},
        )


def make_recipe(
    plan: Plan,
    loss: str,
    arguments: Mapping[str, Any],
    *,
    keep_largest: Sequence[int] = (),
    class_weights: Sequence[float] = (),
) -> Recipe:
    """Return the recipe of a study's plan and loss; arguments that MONAI does not accept are dropped."""
    return Recipe(
        patch=plan.patch,
        normalisation=plan.normalisation,
        intensity_range=plan.intensity_range,
        intensity_mean=plan.intensity_mean,
        intensity_std=plan.intensity_std,
        features=plan.channels,
        strides=plan.strides,
        stem=plan.stem,
        keep_largest=tuple(keep_largest),
        loss=loss,
        loss_arguments={name: value for name, value in arguments.items() if name in ARGUMENTS},
        class_weights=tuple(class_weights),
    )
