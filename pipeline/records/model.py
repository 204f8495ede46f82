"""The base of every value that is stored as JSON: frozen, validated, and tolerant of fields of other versions."""

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from pipeline.errors import RecordError
from pipeline.system.json_values import to_json_object

Number = Annotated[float, BeforeValidator(lambda value: nan if value is None else value)]
"""A number that may be infinite or undefined. JSON has neither: both are written as null, and null is read as NaN."""


class RecordModel(BaseModel):
    """A frozen value that is stored as JSON.

    Fields that this version does not know are preserved, so that a record of a later version loses nothing when it is
    written again.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, allow_inf_nan=True)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values in the order of the fields; a number that is not finite becomes null."""
        return dict(to_json_object(self.model_dump(by_alias=True, mode="json")))

    @classmethod
    def parse(cls, content: Mapping[str, Any] | str | bytes, source: Path, remedy: str) -> Self:
        """Return the record that JSON holds.

        Parameters
        ----------
        content
            JSON text, or what it holds.
        source
            File named in the error.
        remedy
            Advice for a file that cannot be used.

        Raises
        ------
        RecordError
            If the content is not JSON, lacks a field or has one of another type.
        """
        try:
            if isinstance(content, str | bytes):
                return cls.model_validate_json(content)
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            problem = f"{field}: {first['msg']}" if field else first["msg"]
            raise RecordError(source, f"cannot be used ({problem})", remedy) from error


class SparseRecord(RecordModel):
    """A record whose unset fields are not written, so that a file of an older version stays as it was."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values of the fields that are set, in the order of the fields."""
        return dict(to_json_object(self.model_dump(by_alias=True, mode="json", exclude_unset=True)))
