"""Coded terms for the classes of a model, which a DICOM SEG or SR states for its segments.

Codes are chosen by the name of a class alone, never by the name of its dataset: the whole name must be in a table. A
class that is not there gets a code of the private scheme ``99SEGLOSS``, since no code is safer than a wrong one.
``whichloss export --codes FILE`` replaces them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from pipeline.bundle.strict_model import Label, StrictModel
from pipeline.errors import ConfigError

PRIVATE_SCHEME = "99SEGLOSS"


class Code(StrictModel):
    """A coded term, SNOMED CT by default."""

    value: str = Field(pattern=r"^[A-Za-z0-9.-]{1,16}$")
    scheme: str = Field(default="SCT", pattern=r"^[A-Za-z0-9]{1,16}$")
    meaning: Label = Field(max_length=64)


class Segment(StrictModel):
    """Coded name of a class in DICOM outputs.

    `modifiers` refine the type, for example ``Left`` or ``Anterior``. `color` is red, green and blue of 0 to 255.
    """

    label: Label = Field(max_length=64)
    category: Code
    type: Code
    modifiers: tuple[Code, ...] = Field(default=(), max_length=8)
    color: tuple[int, int, int]


class ClassCode(StrictModel):
    """Entry of a codes file for one class; a text refers to the tables of this module."""

    type: Code | str
    category: Code | None = None
    modifiers: tuple[Code | str, ...] = Field(default=(), max_length=8)


ANATOMICAL = Code(value="123037004", meaning="Anatomical Structure")
ABNORMAL = Code(value="49755003", meaning="Morphologically Abnormal Structure")
SPATIAL = Code(value="309825002", meaning="Spatial and Relational Concept")
"""The category of an unknown class, which is true of any region."""

ANATOMY = {
    "adrenal gland": ("23451007", "Adrenal gland"),
    "amygdala": ("4958002", "Amygdala"),
    "aorta": ("15825003", "Aorta"),
    "bladder": ("89837001", "Bladder"),
    "brain": ("12738006", "Brain"),
    "brain stem": ("119238007", "Brain Stem"),
    "brainstem": ("119238007", "Brain Stem"),
    "breast": ("76752008", "Breast"),
    "caudate nucleus": ("11000004", "Caudate Nucleus"),
    "cerebellum": ("113305005", "Cerebellum"),
    "cerebral white matter": ("68523003", "Cerebral White Matter"),
    "clavicle": ("51299004", "Clavicle"),
    "colon": ("71854001", "Colon"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "eye": ("81745001", "Eye"),
    "femur": ("71341001", "Femur"),
    "fourth ventricle": ("35918002", "Fourth Ventricle"),
    "gallbladder": ("28231008", "Gallbladder"),
    "globus pallidus": ("14738005", "Globus Pallidus"),
    "heart": ("80891009", "Heart"),
    "hippocampus": ("5366008", "Hippocampus"),
    "humerus": ("85050009", "Humerus"),
    "inferior vena cava": ("64131007", "Inferior vena cava"),
    "kidney": ("64033007", "Kidney"),
    "larynx": ("4596009", "Larynx"),
    "lateral ventricle": ("66720007", "Lateral Ventricle"),
    "left atrium": ("82471001", "Left atrium"),
    "left ventricle": ("87878005", "Left ventricle"),
    "liver": ("10200004", "Liver"),
    "lung": ("39607008", "Lung"),
    "lymph node": ("59441001", "Lymph Node"),
    "mandible": ("91609006", "Mandible"),
    "nucleus accumbens": ("427667007", "Nucleus Accumbens"),
    "oesophagus": ("32849002", "Esophagus"),
    "optic chiasm": ("244453006", "Optic chiasm"),
    "optic nerve": ("18234004", "Optic nerve"),
    "pancreas": ("15776009", "Pancreas"),
    "parotid gland": ("45289007", "Parotid gland"),
    "portal vein": ("32764006", "Portal vein"),
    "prostate": ("41216001", "Prostate"),
    "pulmonary artery": ("81040000", "Pulmonary artery"),
    "putamen": ("89278009", "Putamen"),
    "rectum": ("34402009", "Rectum"),
    "right atrium": ("73829009", "Right atrium"),
    "right ventricle": ("53085002", "Right ventricle"),
    "scapula": ("79601000", "Scapula"),
    "small intestine": ("30315005", "Small intestine"),
    "spinal cord": ("2748008", "Spinal cord"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "submandibular gland": ("54019009", "Submandibular gland"),
    "superior vena cava": ("48345005", "Superior vena cava"),
    "thalamus": ("42695009", "Thalamus"),
    "third ventricle": ("49841001", "Third ventricle"),
    "thymus": ("9875009", "Thymus"),
    "tibia": ("12611008", "Tibia"),
    "trachea": ("44567001", "Trachea"),
    "urinary bladder": ("89837001", "Bladder"),
    "uterus": ("35039007", "Uterus"),
}
"""SNOMED CT codes of anatomy by the whole name of a class, in lower case with single spaces."""

ABNORMALITIES = {
    "cyst": ("367643001", "Cyst"),
    "edema": ("79654002", "Edema"),
    "hemorrhage": ("50960005", "Hemorrhage"),
    "lesion": ("52988006", "Lesion"),
    "lesions": ("52988006", "Lesion"),
    "necrosis": ("6574001", "Necrosis"),
    "neoplasm": ("108369006", "Neoplasm"),
    "nodule": ("27925004", "Nodule"),
    "oedema": ("79654002", "Edema"),
    "tumor": ("108369006", "Neoplasm"),
    "tumour": ("108369006", "Neoplasm"),
}
"""SNOMED CT codes of morphologic abnormalities by the whole name of a class."""

MODIFIERS = {
    "anterior": ("255549009", "Anterior"),
    "bilateral": ("51440002", "Bilateral"),
    "left": ("7771000", "Left"),
    "posterior": ("255551008", "Posterior"),
    "right": ("24028007", "Right"),
}
"""SNOMED CT codes of words that refine a known name, as in ``kidney_left`` or ``anterior hippocampus``."""

_COLORS = (
    (230, 25, 75), (60, 180, 75), (0, 130, 200), (245, 130, 48), (145, 30, 180), (70, 240, 240), (240, 50, 230),
    (210, 245, 60), (250, 190, 212), (0, 128, 128), (220, 190, 255), (170, 110, 40),
)  # fmt: skip


def private_code(name: str) -> Code:
    """Return the code of a class that is in no table; equal names have equal codes.

    Examples
    --------
    >>> private_code("Forehead").value == private_code("forehead").value
    True
    """
    digest = hashlib.sha256(_normalized(name).encode()).hexdigest()
    return Code(value=f"C-{digest[:14]}", scheme=PRIVATE_SCHEME, meaning=_printable(name))


def known_codes(name: str) -> tuple[Code, Code, tuple[Code, ...]] | None:
    """Return category, type and modifiers of a name, or None if its words are not exactly those of a table.

    Examples
    --------
    >>> category, kind, modifiers = known_codes("Kidney_Left")
    >>> kind.meaning, [modifier.meaning for modifier in modifiers]
    ('Kidney', ['Left'])
    >>> known_codes("forehead") is None
    True
    """
    words = _normalized(name).split(" ")
    rest = [word for word in words if word not in MODIFIERS]
    # The whole name first: "left atrium" is an entry of its own.
    for core, refining in ((words, []), (rest, [word for word in words if word in MODIFIERS])):
        text = " ".join(core)
        modifiers = tuple(_code(MODIFIERS[word]) for word in refining)
        if text in ANATOMY:
            return ANATOMICAL, _code(ANATOMY[text]), modifiers
        if text in ABNORMALITIES:
            return ABNORMAL, _code(ABNORMALITIES[text]), modifiers
    return None


def default_segments(classes: Mapping[int, str]) -> dict[int, Segment]:
    """Return the coded names of classes by label value, each by its own name.

    Parameters
    ----------
    classes
        Names by label value, without background.
    """
    segments = {}
    for position, (value, name) in enumerate(classes.items()):
        category, kind, modifiers = known_codes(name) or (SPATIAL, private_code(name), ())
        color = _COLORS[position % len(_COLORS)]
        segments[value] = Segment(
            label=_printable(name), category=category, type=kind, modifiers=modifiers, color=color
        )
    return segments


def read_codes(path: Path) -> dict[str, ClassCode]:
    """Return the codes by class of a JSON file, ``{"CLASS": {"type": ..., "category": ..., "modifiers": [...]}}``.

    Raises
    ------
    ConfigError
        If the file cannot be read or a code is malformed; the key is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--codes {path}", f"could not be read as JSON ({reason})", "give a JSON file") from None
    try:
        return TypeAdapter(dict[str, ClassCode]).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = "::".join(str(part) for part in first["loc"])
        remedy = 'write {"CLASS": {"type": {"value": ..., "scheme": "SCT", "meaning": ...}, "modifiers": ["left"]}}'
        raise ConfigError(f"--codes {path}", f"{key}: {first['msg'].lower()}", remedy) from None


def coded_segments(classes: Mapping[int, str], codes: Mapping[str, ClassCode]) -> dict[int, Segment]:
    """Return the coded names of classes by label value; those of a codes file replace the defaults.

    Parameters
    ----------
    classes
        Names by label value, without background.
    codes
        Entries of the codes file by class name.

    Raises
    ------
    ConfigError
        If a class is unknown, or a text is in no table.
    """
    unknown = sorted(set(codes) - set(classes.values()))
    if unknown:
        raise ConfigError(f"--codes: {unknown[0]}", "is not a class of the study", f"use {', '.join(classes.values())}")
    segments = default_segments(classes)
    for value, name in classes.items():
        if name in codes:
            category, kind, modifiers = _resolved(name, codes[name])
            segments[value] = segments[value].model_copy(
                update={"category": category, "type": kind, "modifiers": modifiers}
            )
    return segments


def _resolved(name: str, entry: ClassCode) -> tuple[Code, Code, tuple[Code, ...]]:
    modifiers = []
    for modifier in entry.modifiers:
        if isinstance(modifier, str) and modifier.casefold() not in MODIFIERS:
            raise ConfigError(
                f"--codes: {name}: modifiers", f"{modifier!r} is not known", f"use {', '.join(MODIFIERS)}, or a code"
            )
        modifiers.append(_code(MODIFIERS[modifier.casefold()]) if isinstance(modifier, str) else modifier)
    if isinstance(entry.type, Code):
        return entry.category or ANATOMICAL, entry.type, tuple(modifiers)
    known = known_codes(entry.type)
    if known is None:
        raise ConfigError(
            f"--codes: {name}: type", f"{entry.type!r} is not known", "write a code with value, scheme and meaning"
        )
    return entry.category or known[0], known[1], (*known[2], *modifiers)


def _normalized(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


def _printable(name: str) -> str:
    """Return a name as a `Label` that DICOM can hold, where a backslash would separate two values."""
    text = "".join(part if part.isprintable() and part != "\\" else " " for part in name)
    return text.lstrip(" $%@")[:64].strip() or "unnamed class"


def _code(entry: tuple[str, str]) -> Code:
    return Code(value=entry[0], meaning=entry[1])
