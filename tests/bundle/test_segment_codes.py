"""DICOM codes of classes: by the name of the class alone, or by a file."""

import json

import pytest
from pydicom.sr.codedict import codes

from pipeline.bundle.segment_codes import (
    ABNORMAL,
    ABNORMALITIES,
    ANATOMICAL,
    ANATOMY,
    MODIFIERS,
    PRIVATE_SCHEME,
    coded_segments,
    default_segments,
    private_code,
    read_codes,
)
from pipeline.errors import ConfigError


def type_of(name):
    return default_segments({1: name})[1].type


def test_each_code_of_the_tables_is_that_of_pydicom():
    known = {(getattr(codes.SCT, name).value, getattr(codes.SCT, name).meaning.casefold()) for name in codes.SCT.dir()}
    for table in (ANATOMY, ABNORMALITIES, MODIFIERS):
        for value, meaning in table.values():
            assert (value, meaning.casefold()) in known, meaning


@pytest.mark.parametrize(
    ("name", "value", "category"),
    [
        ("liver", "10200004", ANATOMICAL),
        ("Liver", "10200004", ANATOMICAL),
        ("spleen", "78961009", ANATOMICAL),
        ("lesions", "52988006", ABNORMAL),
        ("spinal_cord", "2748008", ANATOMICAL),
        ("left ventricle", "87878005", ANATOMICAL),
    ],
)
def test_a_class_is_coded_by_its_whole_name(name, value, category):
    segment = default_segments({1: name})[1]
    assert (segment.type.value, segment.type.scheme, segment.modifiers) == (value, "SCT", ())
    assert segment.category == category


@pytest.mark.parametrize("name", ["head", "forehead", "perilesional edema", "not spleen", "organ 1", "Task09_Spleen"])
def test_an_unknown_class_gets_a_private_code_and_never_a_wrong_one(name):
    segment = default_segments({1: name})[1]
    assert segment.type == private_code(name)
    assert segment.type.scheme == PRIVATE_SCHEME
    assert segment.type.meaning == name
    assert segment.category not in (ANATOMICAL, ABNORMAL)
    assert type_of("another") != segment.type


def test_side_and_end_are_modifiers_of_a_known_name():
    segments = default_segments({1: "kidney_left", 2: "Anterior hippocampus", 3: "left something"})
    assert [code.meaning for code in (segments[1].type, *segments[1].modifiers)] == ["Kidney", "Left"]
    assert [code.meaning for code in (segments[2].type, *segments[2].modifiers)] == ["Hippocampus", "Anterior"]
    assert segments[3].type.scheme == PRIVATE_SCHEME


def test_a_name_that_dicom_cannot_hold_is_cleaned():
    segment = default_segments({1: "a\\b\n\u202ec" + "x" * 100})[1]
    assert segment.label == ("a b  c" + "x" * 100)[:64]
    assert segment.type.meaning == segment.label


def written(tmp_path, content):
    path = tmp_path / "codes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


CLASSES = {1: "Anterior", 2: "Posterior"}


def test_a_file_sets_codes_and_modifiers(tmp_path):
    own = {"value": "279209001", "scheme": "SCT", "meaning": "Posterior part of hippocampus"}
    content = {
        "Anterior": {"type": "hippocampus", "modifiers": ["anterior", "left"]},
        "Posterior": {"type": own, "modifiers": [{"value": "7771000", "meaning": "Left"}]},
    }
    segments = coded_segments(CLASSES, read_codes(written(tmp_path, content)))
    assert segments[1].type.value == "5366008"
    assert [code.value for code in segments[1].modifiers] == ["255549009", "7771000"]
    assert segments[2].type.meaning == "Posterior part of hippocampus"
    assert segments[1].label == "Anterior"
    assert segments[1].color != segments[2].color


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "could not be read as JSON"),
        ("[]", "dictionary"),
        ({"Nose": {"type": "spleen"}}, "Nose: is not a class of the study; use Anterior, Posterior"),
        ({"Anterior": {"type": "nose"}}, "Anterior: type: 'nose' is not known"),
        ({"Anterior": {"type": "spleen", "modifiers": ["upper"]}}, "'upper' is not known; use anterior"),
        ({"Anterior": {"type": "spleen", "color": 3}}, "Anterior::color"),
        ({"Anterior": {"type": {"value": "1 2", "meaning": "x"}}}, "Anterior::type"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line_that_names_the_key(content, problem, tmp_path):
    with pytest.raises(ConfigError) as caught:
        coded_segments(CLASSES, read_codes(written(tmp_path, content)))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)
