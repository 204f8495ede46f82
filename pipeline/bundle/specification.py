"""The specification of a bundle: the ``segloss`` object of ``configs/metadata.json``."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.bundle.model_settings import ModelSettings
from pipeline.bundle.segment_codes import Segment
from pipeline.bundle.strict_model import HIDDEN_CHARACTERS, Label, StrictModel
from pipeline.errors import BundleError

Triple = tuple[int, int, int]
MAXIMUM_CLASSES = 255
MAXIMUM_PATCH_VOXELS = 2**27
MAXIMUM_RULES = 64


SeriesRule = dict[str, Any]
"""A DICOM series rule as JSON: ``name`` and ``conditions``, in the syntax of `pipeline.inference.dicom.rules`."""


class TrainingRanges(StrictModel):
    """Ranges (low, high) over the training cases; `whichloss predict` warns of images outside.

    Attributes
    ----------
    cases
        Number of cases.
    spacing_mm, shape
        Range of spacing and of size in voxels along each axis in R, A, S order.
    intensity
        Range of each channel inside the structures: the lowest 0.5 and the highest 99.5 percentile over cases.
    """

    cases: int
    spacing_mm: tuple[tuple[float, float], ...]
    shape: tuple[tuple[int, int], ...]
    intensity: tuple[tuple[float, float], ...]


class BundleSpec(StrictModel):
    """Everything that inference needs, and the `recipe` that all configurations are computed from.

    Attributes
    ----------
    name
        Name of the bundle.
    channels, classes
        Names of the input channels, and of the foreground classes by label value.
    several_files
        True if each channel is a file of its own.
    spacing_mm, patch
        Spacing of the network's grid along R, A, S, and shape in voxels of the window that is predicted at once.
    overlap, batch
        Overlap of windows as a fraction, and number of windows per forward pass.
    precision, tta
        Number format and test-time augmentation of the study's validation.
    members
        Number of networks of an ensemble; 1 without one.
    fingerprint
        Ranges over the training cases.
    segments
        Coded name of each class by label value.
    series_rules
        DICOM series rules, checked by `pipeline.inference.dicom.rules` before they are used.
    recipe
        Network, preprocessing and loss; None in bundles of earlier versions, whose configurations cannot be checked.
    """

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.=-]{0,99}$")
    channels: tuple[Label, ...] = Field(min_length=1, max_length=64)
    classes: dict[int, Label] = Field(min_length=1, max_length=MAXIMUM_CLASSES)
    several_files: bool
    spacing_mm: tuple[float, float, float]
    patch: Triple
    overlap: float = Field(ge=0, lt=1)
    batch: int = Field(ge=1, le=64)
    precision: Literal["float32", "bfloat16"]
    members: int = Field(ge=1, le=64)
    tta: bool = False
    fingerprint: TrainingRanges
    segments: dict[int, Segment]
    series_rules: tuple[SeriesRule, ...] = Field(default=(), max_length=MAXIMUM_RULES)
    recipe: ModelSettings | None = None

    @field_validator("classes")
    @classmethod
    def _values_fit_a_mask(cls, classes: dict[int, str]) -> dict[int, str]:
        if min(classes) < 1 or max(classes) > 65535 or list(classes) != sorted(classes):
            raise ValueError("label values must ascend within 1..65535")
        return classes

    @model_validator(mode="after")
    def _window_is_sane(self) -> "BundleSpec":
        if min(self.patch) < 1 or self.patch[0] * self.patch[1] * self.patch[2] > MAXIMUM_PATCH_VOXELS:
            raise ValueError(f"patch must hold 1 to {MAXIMUM_PATCH_VOXELS} voxels")
        if min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm must be positive")
        return self

    @model_validator(mode="after")
    def _recipe_fits(self) -> "BundleSpec":
        if self.recipe is not None:
            if len(self.recipe.normalisation) != len(self.channels):
                raise ValueError("recipe must have one normalisation per channel")
            if self.recipe.keep_largest and self.recipe.keep_largest[-1] > len(self.classes):
                raise ValueError("recipe must keep the largest component of existing classes only")
        return self


def parse_spec(value: object, file: Path) -> BundleSpec:
    """Return the checked specification of a bundle that is opened.

    Raises
    ------
    BundleError
        Naming the file and the key that is wrong.
    """
    try:
        return BundleSpec.model_validate(value)
    except ValidationError as error:
        raise spec_error(error, file, "export the bundle again with `whichloss export`") from None


def spec_error(error: ValidationError, file: Path, remedy: str) -> BundleError:
    """Return the error for the first key of a specification that is wrong, in printable characters."""
    first = error.errors()[0]
    key = "::".join(["segloss", *(ascii(str(part)[:100])[1:-1] for part in first["loc"])])
    is_hidden = HIDDEN_CHARACTERS in first["msg"]
    problem = "contains control characters or begins with $, % or @" if is_hidden else first["msg"]
    return BundleError(file, f"{key}: {problem.lower()}", remedy)
