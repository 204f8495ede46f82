"""What a bundle says of itself beyond MONAI's metadata: the ``segloss`` object of ``configs/metadata.json``."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.bundle.recipe import Recipe
from pipeline.errors import BundleError

Triple = tuple[int, int, int]
MAXIMUM_CLASSES = 255
MAXIMUM_PATCH_VOXELS = 2**27
MAXIMUM_RULES = 64

# Control characters, line separators and marks that reverse the reading direction: they break DICOM text and tables,
# and can make one label look like another.
_HIDDEN = r"\p{Cc}\p{Zl}\p{Zp}\u{200E}\u{200F}\u{202A}-\u{202E}\u{2066}-\u{2069}"
# MONAI would evaluate a text that begins with $, % or @.
Label = Annotated[str, Field(max_length=200, pattern=rf"^[^{_HIDDEN}$%@][^{_HIDDEN}]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Code(_Strict):
    """A coded term, SNOMED CT by default."""

    value: str = Field(pattern=r"^[A-Za-z0-9.-]{1,16}$")
    scheme: str = Field(default="SCT", pattern=r"^[A-Za-z0-9]{1,16}$")
    meaning: Label = Field(max_length=64)


class Segment(_Strict):
    """How DICOM outputs name a class; `color` is red, green and blue of 0 to 255."""

    label: Label = Field(max_length=64)
    category: Code
    type: Code
    color: tuple[int, int, int]


class Fingerprint(_Strict):
    """Ranges over the training data; lists hold (low, high).

    `spacing_mm` and `shape` have one pair for each axis in R, A, S order, `intensity` one for each channel (0.5 and
    99.5 percentile inside the structures, the lowest and highest over cases).
    """

    cases: int
    spacing_mm: tuple[tuple[float, float], ...]
    shape: tuple[tuple[int, int], ...]
    intensity: tuple[tuple[float, float], ...]


class BundleSpec(_Strict):
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
    fingerprint: Fingerprint
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
        problem = "contains control characters or begins with $, % or @" if _HIDDEN in first["msg"] else first["msg"]
        raise BundleError(file, f"{key}: {problem.lower()}", remedy) from None


def build_spec(dataset: Path, **values: Any) -> BundleSpec:
    """Return the spec of a bundle that is being exported; a `BundleError` names the value that no bundle may have."""
    return parse_spec(values, dataset, "correct it in the dataset, then run the study again")


_KNOWN_TYPES = (
    ("hippocamp", Code(value="5366008", meaning="Hippocampus")),
    ("spleen", Code(value="78961009", meaning="Spleen")),
    ("lesion", Code(value="52988006", meaning="Lesion")),
)
_ANATOMICAL = Code(value="123037004", meaning="Anatomical Structure")
_ABNORMAL = Code(value="49755003", meaning="Morphologically Abnormal Structure")
_COLORS = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230),
    (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40),
)  # fmt: skip


def default_segments(classes: Mapping[int, str], dataset: str) -> dict[int, Segment]:
    """Return coded names by what class and dataset are called: hippocampus, spleen, lesion, else any anatomy."""
    found = {}
    for position, (value, name) in enumerate(classes.items()):
        text = f"{name} {dataset}".lower()
        code = next((code for word, code in _KNOWN_TYPES if re.search(word, text)), _ANATOMICAL)
        found[value] = Segment(
            label=name[:64],
            category=_ABNORMAL if code.value == "52988006" else _ANATOMICAL,
            type=code,
            color=_COLORS[position % len(_COLORS)],
        )
    return found
