"""Base class of the values in a bundle's JSON, and the type of their texts."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Control characters, line separators and marks that reverse the reading direction: they break DICOM text and tables,
# and can make one label look like another.
HIDDEN_CHARACTERS = r"\p{Cc}\p{Zl}\p{Zp}\u{200E}\u{200F}\u{202A}-\u{202E}\u{2066}-\u{2069}"

# MONAI would evaluate a text that begins with $, % or @.
Label = Annotated[str, Field(max_length=200, pattern=rf"^[^{HIDDEN_CHARACTERS}$%@][^{HIDDEN_CHARACTERS}]*$")]


class StrictModel(BaseModel):
    """A model that is immutable, refuses unknown keys, and holds finite numbers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
