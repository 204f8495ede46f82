"""The settings from which, with the rest of the specification, every configuration of a bundle is computed."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from pipeline.bundle.losses import ARGUMENTS, LOSSES
from pipeline.bundle.named_network import NamedNetwork
from pipeline.bundle.strict_model import StrictModel
from pipeline.data.plan import Normalization, Plan

MAXIMUM_LEVELS = 9

Finite = Annotated[float, Field(ge=-1e9, le=1e9)]
Stride = Annotated[int, Field(ge=1, le=7)]
Strides = tuple[Stride, Stride, Stride]
Edge = Annotated[int, Field(ge=1, le=1024)]


class ModelSettings(StrictModel):
    """Network, preprocessing, post-processing and loss of a bundle; axes in R, A, S order.

    Attributes
    ----------
    patch
        Shape in voxels of what the network is trained on.
    normalisation, intensity_range, intensity_mean, intensity_std
        As in `pipeline.data.plan.Plan`, one entry per channel.
    features, strides, stem
        Levels of the network: `channels`, `strides` and `stem` of the plan.
    keep_largest
        Indices (1 is the first foreground class) of the classes that are reduced to their largest component.
    loss, loss_arguments
        A key of `pipeline.bundle.losses.LOSSES` and the arguments that replace its defaults.
    class_weights
        Weight of each class, background first; set for weighted losses only.
    network
        A network of MONAI in place of the U-Net that `features`, `strides` and `stem` describe.
    """

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
    loss_arguments: dict[str, Finite | tuple[Finite, ...]] = Field(default_factory=dict)
    class_weights: tuple[Finite, ...] = ()
    network: NamedNetwork | None = None

    @model_serializer(mode="wrap")
    def _without_default_network(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a missing network, so that the files of other bundles stay as they were."""
        values: dict[str, Any] = serialize(self)
        return {name: value for name, value in values.items() if name != "network" or value is not None}

    @field_validator("loss")
    @classmethod
    def _loss_is_known(cls, loss: str) -> str:
        if loss not in LOSSES:
            raise ValueError(f"must be one of {', '.join(LOSSES)}")
        return loss

    @field_validator("loss_arguments")
    @classmethod
    def _arguments_are_known(cls, arguments: dict[str, object]) -> dict[str, object]:
        if unknown := sorted(set(arguments) - ARGUMENTS):
            raise ValueError(f"{unknown[0]!r:.40} is not an argument of a loss")
        return arguments

    @model_validator(mode="after")
    def _lengths_agree(self) -> "ModelSettings":
        channels = len(self.normalisation)
        if any(len(values) != channels for values in (self.intensity_range, self.intensity_mean, self.intensity_std)):
            raise ValueError("intensity values must have one entry per channel")
        if len(self.strides) != len(self.features) - 1:
            raise ValueError("strides must have one entry fewer than features")
        if list(self.keep_largest) != sorted(set(self.keep_largest)):
            raise ValueError("keep_largest must ascend")
        return self


def make_settings(
    plan: Plan,
    loss: str,
    arguments: Mapping[str, Any],
    *,
    keep_largest: Sequence[int] = (),
    class_weights: Sequence[float] = (),
    network: NamedNetwork | None = None,
) -> ModelSettings:
    """Return the settings of a study's plan and loss.

    Arguments of the loss that MONAI does not accept are dropped; the other parameters are as in `ModelSettings`.
    """
    return ModelSettings(
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
        network=network,
    )
