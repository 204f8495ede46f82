"""Each kind of condition in the syntax of MONAI Deploy selects series as documented."""

import time

import pytest

from pipeline.errors import ConfigError
from pipeline.inference.dicom.rules import mismatch, parse_rules

VALUES = {
    "Modality": "MR",
    "SeriesDescription": "AX T1 MPRAGE +C",
    "SliceThickness": 3.0,
    "EchoNumbers": 2.0,
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "ImageOrientationPatient": "Axial",
    "NumberOfSlices": 120,
    "BodyPartExamined": None,
}


@pytest.mark.parametrize(
    ("keyword", "wanted", "matches"),
    [
        ("Modality", "mr", True),
        ("Modality", "CT", False),
        ("Modality", "!CT", True),
        ("Modality", "!MR", False),
        ("SeriesDescription", "(?i)t1.*mprage", True),
        ("SeriesDescription", "^T1", False),
        ("SeriesDescription", "AX T1 MPRAGE +C", True),
        ("SeriesDescription", "!T2|FLAIR", True),
        ("SliceThickness", 3, True),
        ("SliceThickness", 3.1, False),
        ("SliceThickness", [1, 3], True),
        ("SliceThickness", [3.5, 5], False),
        ("SliceThickness", [2, ">"], True),
        ("SliceThickness", [3, ">"], False),
        ("SliceThickness", [3, ">="], True),
        ("SliceThickness", [3, "<"], False),
        ("SliceThickness", [3, "!="], False),
        ("EchoNumbers", "^[12]$", True),
        ("ImageType", ["primary", "ORIGINAL"], True),
        ("ImageType", ["PRIMARY", "!DERIVED"], True),
        ("ImageType", ["PRIMARY", "!AXIAL"], False),
        ("ImageType", "AXIAL", True),
        ("ImageOrientationPatient", "axial", True),
        ("ImageOrientationPatient", "Coronal", False),
        ("ImageOrientationPatient", "!Sagittal", True),
        ("NumberOfSlices", [100, ">="], True),
        ("NumberOfSlices", [121, ">="], False),
        ("BodyPartExamined", "BRAIN", False),
        ("StudyDescription", ".*", False),
        ("StudyDescription", None, True),
    ],
)
def test_a_condition_holds_or_not(keyword: str, wanted: object, matches: bool) -> None:
    rules = parse_rules([{"name": "one", "conditions": {"Modality": "MR", keyword: wanted}}])
    reasons = [mismatch(rule, VALUES) for rule in rules]
    assert (reasons == [None]) == matches


def test_rules_are_a_list_an_object_of_selections_or_bare_conditions() -> None:
    conditions = {"Modality": "MR", "NumberOfSlices": [3, ">"]}
    for rules in ([{"name": "a", "conditions": conditions}], {"selections": [{"conditions": conditions}]}, conditions):
        (rule,) = parse_rules(rules)
        assert dict(rule.conditions) == conditions
    assert parse_rules([]) == []
    assert parse_rules({}) == []


def test_reasons_repeat_numbers_and_codes_but_no_free_text() -> None:
    def reason(**conditions: object) -> str | None:
        (rule,) = parse_rules([{"conditions": conditions}])
        return mismatch(rule, VALUES | {"PatientSex": "F"})

    assert reason(SliceThickness=1) == "SliceThickness 3 does not match 1"
    assert reason(ImageType=["DERIVED"]) == "ImageType ORIGINAL/PRIMARY/AXIAL does not match ['DERIVED']"
    assert reason(SeriesDescription="FLAIR") == "SeriesDescription does not match 'FLAIR'"
    assert reason(PatientSex="M") == "PatientSex does not match 'M'"
    assert reason(BodyPartExamined="BRAIN") == "has no BodyPartExamined"


@pytest.mark.parametrize("pattern", ["(a+)+$", "!(a|a)*$", "^(([a-z])+.)+[A-Z]$", "(.*)*x", "(a?){50}a{50}$"])
def test_the_time_of_a_pattern_is_linear_in_the_length_of_the_text(pattern: str) -> None:
    rules = parse_rules([{"conditions": {"SeriesDescription": pattern}}])
    began = time.monotonic()
    mismatch(rules[0], {"SeriesDescription": "a" * 60 + "!"})
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    ("pattern", "word"),
    [
        ("(", "unclosed"),
        ("^(?!.*scout)", "look-around"),
        ("(a)\\1", "backreferences"),
        ("a" * 501, "501 characters"),
        ("(((a{99}){99}){99}){99}", "size limit"),
    ],
)
def test_a_pattern_that_cannot_be_bounded_is_refused_with_the_reason(pattern: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse_rules([{"name": "one", "conditions": {"SeriesDescription": pattern}}])


def test_a_rule_with_hundreds_of_conditions_is_refused() -> None:
    from pydicom.datadict import DicomDictionary

    keywords = [entry[4] for entry in list(DicomDictionary.values())[:200] if entry[4]]
    with pytest.raises(ConfigError, match="conditions"):
        parse_rules([{"conditions": dict.fromkeys(keywords, "a")}])
