"""Classes in DICOM outputs have codes with modifiers, or private codes if the bundle does not describe them."""

from dicom_series import MODEL

from pipeline.bundle.segment_codes import PRIVATE_SCHEME, default_segments
from pipeline.inference.dicom.segments import descriptions, segments_of


class Coded:
    """A model with a coded class and one that its bundle does not describe."""

    name, version, sha256 = MODEL.name, MODEL.version, MODEL.sha256
    classes = {1: "front", 2: "unheard of"}  # noqa: RUF012
    segments = {1: default_segments({1: "anterior left hippocampus"})[1].model_dump()}  # noqa: RUF012


def test_the_segmentation_object_has_the_modifiers():
    first, second = descriptions(Coded)
    kind = first.SegmentedPropertyTypeCodeSequence[0]
    assert kind.CodeValue == "5366008"
    modifiers = kind.SegmentedPropertyTypeModifierCodeSequence
    assert [item.CodeMeaning for item in modifiers] == ["Anterior", "Left"]
    assert "SegmentedPropertyTypeModifierCodeSequence" not in second.SegmentedPropertyTypeCodeSequence[0]


def test_a_class_that_the_bundle_does_not_describe_gets_a_private_code():
    assert segments_of(Coded)[1].type.scheme_designator == PRIVATE_SCHEME
