"""What the outputs say about the model and its classes: coded names, colors, algorithm, dates, identifiers."""

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

from pipeline import __version__
from pipeline.bundle import segment_codes as tables

MANUFACTURER = "segloss"
UTF_8 = "ISO_IR 192"

_Output = TypeVar("_Output", bound=Dataset)
_LONG_STRING = 64
_TYPE_2 = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_UNDATED = datetime(1970, 1, 1)


class SegmentationModel(Protocol):
    """What is read of a bundle's model.

    Attributes
    ----------
    name, version
        Of the bundle.
    sha256
        Of its weights, hexadecimal.
    classes
        Name of each value of a mask.
    segments
        For each value: `label`; `category` and `type`, each with `value`, `scheme`, `meaning`; `modifiers`, a list of
        such codes; `color`, red, green, blue of 0 to 255. A class that is missing here is coded by its name.
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
    """One class: its value in masks, its number in the SEG (1 to n without gaps), its name and its codes.

    `modifiers` refine the type, for example to the left or the anterior part.
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
        said = named[value].model_dump() | dict(model.segments.get(value, {}))
        color = said["color"]
        segments.append(
            Segment(
                value=value,
                number=number,
                name=model.classes[value],
                label=str(said["label"])[:_LONG_STRING],
                category=_code(said["category"]),
                type=_code(said["type"]),
                modifiers=tuple(_code(modifier) for modifier in said["modifiers"]),
                color=(int(color[0]), int(color[1]), int(color[2])),
            )
        )
    return segments


def descriptions(model: SegmentationModel) -> list[hd.seg.SegmentDescription]:
    """Return the segment descriptions of a SEG (PS3.3, C.8.20.4), by an algorithm that ran on its own."""
    algorithm = hd.AlgorithmIdentificationSequence(
        name=model.name[:_LONG_STRING],
        family=codes.cid7162.ArtificialIntelligence,
        version=model.version[:_LONG_STRING],
        source=MANUFACTURER,
        parameters={"weights_sha256": model.sha256},
    )
    return [_description(segment, algorithm) for segment in segments_of(model)]


def _description(segment: Segment, algorithm: hd.AlgorithmIdentificationSequence) -> hd.seg.SegmentDescription:
    found = hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.label,
        segmented_property_category=segment.category,
        segmented_property_type=segment.type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*segment.color),
    )
    if segment.modifiers:
        found.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept.from_code(modifier) for modifier in segment.modifiers
        ]
    return found


def series_description(kind: str, model: SegmentationModel) -> str:
    """Return what a PACS shows: that it is research, then the model, within 64 characters."""
    return f"AI, research use: {kind} by {model.name} {model.version}"[:_LONG_STRING].rstrip()


def identifier(kind: str, sources: list[Dataset], model: SegmentationModel, mask: np.ndarray | None = None) -> str:
    """Return a UID that is the same for the same sources, weights and mask, and different for any others."""
    entropy = [kind, model.name, model.version, model.sha256, __version__]
    entropy += sorted(str(source.SOPInstanceUID) for source in sources)
    if mask is not None:
        entropy += [str(mask.shape), hashlib.sha256(np.ascontiguousarray(mask).tobytes()).hexdigest()]
    return str(generate_uid(entropy_srcs=entropy))


def moment_of(source: Dataset) -> datetime:
    """Return date and time of the source: of its series, else of its study, else 1970.

    Outputs bear it instead of the present, so that a repeat gives the same bytes.
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
    """Return the header with what an output must repeat (patient and study), empty where it is absent or malformed."""
    for keyword in _TYPE_2:
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
    """Give an output one moment throughout, instead of that of its writing."""
    output.InstanceCreationDate = output.ContentDate = output.SeriesDate = DA(moment.date())
    output.InstanceCreationTime = output.ContentTime = output.SeriesTime = TM(moment.time())
    for equipment in output.get("ContributingEquipmentSequence", []):
        if equipment.get("ManufacturerModelName") == "highdicom":
            equipment.ContributionDateTime = DT(moment)
    return output


def _code(said: Mapping[str, str]) -> Code:
    return Code(said["value"], said["scheme"], said["meaning"][:_LONG_STRING])
