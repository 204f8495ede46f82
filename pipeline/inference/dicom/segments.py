"""Attributes of the outputs: coded names and colors of the classes, algorithm, dates and identifiers."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, DT, TM

from pipeline.bundle import segment_codes as tables
from pipeline.version import __version__

MANUFACTURER = "whichloss"
UTF_8 = "ISO_IR 192"

_Output = TypeVar("_Output", bound=Dataset)
_LONG_STRING = 64
"""Characters of a value of representation LO at most (PS3.5, 6.2)."""

_REPEATED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_UNDATED = datetime(1970, 1, 1)


class SegmentationModel(Protocol):
    """The attributes of a bundle's model that describe its outputs.

    Attributes
    ----------
    name, version
        Name and version of the bundle.
    sha256
        Hash of the bundle, hexadecimal.
    classes
        Names of the classes by label value.
    segments
        By label value: `label`; `category` and `type`, each with `value`, `scheme`, `meaning`; `modifiers`, a list of
        such codes; `color` (red, green, blue, 0 to 255). A missing class is coded by its name.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def classes(self) -> Mapping[int, str]: ...  # noqa: D102
    @property
    def segments(self) -> Mapping[int, Mapping[str, Any]]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Segment:
    """One class in the outputs.

    Parameters
    ----------
    value
        Label value in masks.
    number
        Number in the SEG, 1 to n without gaps.
    name
        Name of the class.
    label
        Name in the SEG, at most 64 characters.
    category, type
        Codes of category and type.
    modifiers
        Codes that refine the type, for example to the left or the anterior part.
    color
        Red, green, blue, 0 to 255.
    """

    value: int
    number: int
    name: str
    label: str
    category: Code
    type: Code
    modifiers: tuple[Code, ...]
    color: tuple[int, int, int]


def segments_of(model: SegmentationModel) -> list[Segment]:
    """Return the classes of a model, without background, in the order of their values."""
    segments = []
    values = sorted(value for value in model.classes if value != 0)
    named = tables.default_segments({value: model.classes[value] for value in values})
    for number, value in enumerate(values, start=1):
        segment = named[value].model_dump() | dict(model.segments.get(value, {}))
        red, green, blue = segment["color"]
        segments.append(
            Segment(
                value=value,
                number=number,
                name=model.classes[value],
                label=str(segment["label"])[:_LONG_STRING],
                category=_code(segment["category"]),
                type=_code(segment["type"]),
                modifiers=tuple(_code(modifier) for modifier in segment["modifiers"]),
                color=(int(red), int(green), int(blue)),
            )
        )
    return segments


def descriptions(model: SegmentationModel) -> list[hd.seg.SegmentDescription]:
    """Return the segment descriptions of a SEG (PS3.3, C.8.20.4); the algorithm type is automatic."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:_LONG_STRING],
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version[:_LONG_STRING],
        source=MANUFACTURER,
        parameters={"weights_sha256": model.sha256},
    )
    return [_description(segment, algorithm) for segment in segments_of(model)]


def _description(segment: Segment, algorithm: hd.AlgorithmIdentificationSequence) -> hd.seg.SegmentDescription:
    description = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
    if segment.modifiers:
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept.from_code(modifier) for modifier in segment.modifiers
        ]
    return description


def series_description(kind: str, model: SegmentationModel) -> str:
    """Return the description that a PACS shows: research use, kind of output and model, in at most 64 characters."""
    return f"AI, research use: {kind} by {model.name} {model.version}"[:_LONG_STRING].rstrip()


def identifier(kind: str, sources: list[Dataset], model: SegmentationModel, mask: np.ndarray | None = None) -> str:
    """Return a UID that depends on nothing but the sources, the bundle, the version of this program and the mask.

    The same input so gives the same UID, and storing a repeated result in a PACS changes nothing.
    """
    entropy = [kind, model.name, model.version, model.sha256, __version__]
    entropy += sorted(str(source.SOPInstanceUID) for source in sources)
    if mask is not None:
        entropy += [str(mask.shape), hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()]
    return str(generate_uid(entropy_srcs=entropy))


def moment_of(source: Dataset) -> datetime:
    """Return date and time of the source: of its series, content, acquisition or study, the first that is present.

    Outputs have this date instead of the present one, so that a repetition gives the same bytes. Without any date it
    is the first of January 1970.
    """
    for kind in ("Series", "Content", "Acquisition", "Study"):
        date, time = source.get(f"{kind}Date"), source.get(f"{kind}Time")
        try:
            day, hour = DA(date), TM(time) if time else None
        except ValueError:
            continue
        if day:
            return datetime.combine(day, hour.replace(tzinfo=None) if hour else datetime.min.time())
    return _UNDATED


def completed(source: Dataset) -> Dataset:
    """Give the header an empty value where an attribute that outputs must repeat is absent or malformed; return it."""
    for keyword in _REPEATED:
        if keyword not in source:
            setattr(source, keyword, "")
    if source.PatientSex not in ("M", "F", "O"):
        source.PatientSex = ""
    for keyword, kind in (("PatientBirthDate", DA), ("StudyDate", DA), ("StudyTime", TM)):
        try:
            kind(source.get(keyword) or None)
        except ValueError:
            setattr(source, keyword, "")
    return source


def dated(output: _Output, moment: datetime) -> _Output:
    """Set all dates of an output to `moment` instead of the time of writing; return it."""
    output.InstanceCreationDate = output.ContentDate = output.SeriesDate = DA(moment.date())
    output.InstanceCreationTime = output.ContentTime = output.SeriesTime = TM(moment.time())
    for equipment in output.get("ContributingEquipmentSequence", []):
        if equipment.get("ManufacturerModelName") == "highdicom":
            equipment.ContributionDateTime = DT(moment)
    return output


def _code(code: Mapping[str, str]) -> Code:
    return Code(code["value"], code["scheme"], code["meaning"][:_LONG_STRING])
