"""What a bundle says of itself beyond MONAI's metadata: the ``segloss`` object of ``configs/metadata.json``."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.bundle.recipe import Recipe
from pipeline.bundle.segment_codes import Segment
from pipeline.bundle.strict_model import HIDDEN_CHARACTERS, Label, StrictModel
from pipeline.errors import BundleError

Triple = tuple[int, int, int]
MAXIMUM_CLASSES = 255
MAXIMUM_PATCH_VOXELS = 2**27
MAXIMUM_RULES = 64


class TrainingRanges(StrictModel):
    """Ranges over the training data; lists hold (low, high).

    `spacing_mm` and `shape` have one pair for each axis in R, A, S order, `intensity` one for each channel (0.5 and
    99.5 percentile inside the structures, the lowest and highest over cases).
    """

    cases: int
    spacing_mm: tuple[tuple[float, float], ...]
    shape: tuple[tuple[int, int], ...]
    intensity: tuple[tuple[float, float], ...]


class BundleSpec(StrictModel):
    """Everything inference needs, and the `recipe` that all configurations are computed from.

    Without a recipe the configurations of a bundle cannot be checked.
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
    series_rules: tuple[dict[str, Any], ...] = Field(default=(), max_length=MAXIMUM_RULES)
    recipe: Recipe | None = None

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


def parse_spec(
    value: object, file: Path | str, remedy: str = "export the bundle again with `segloss export`"
) -> BundleSpec:
    """Return the checked spec; a `BundleError` names the file and the key that is wrong."""
    try:
        return BundleSpec.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = "::".join(["segloss", *(ascii(str(part)[:100])[1:-1] for part in first["loc"])])
        problem = (
            "contains control characters or begins with $, % or @"
            if HIDDEN_CHARACTERS in first["msg"]
            else first["msg"]
        )
        raise BundleError(file, f"{key}: {problem.lower()}", remedy) from None


def build_spec(dataset: Path, **values: Any) -> BundleSpec:
    """Return the spec of a bundle that is being exported; a `BundleError` names the value that no bundle may have."""
    return parse_spec(values, dataset, "correct it in the dataset, then run the study again")
