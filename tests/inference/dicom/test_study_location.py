"""The location of a study does not name its patient."""

from pathlib import Path

import pytest

from pipeline.inference.dicom.study_location import study_location

ROOT = Path("/in")


@pytest.mark.parametrize(
    ("files", "words", "place"),
    [
        (("ward/a/1", "ward/a/2"), (), "ward/a"),
        (("ward/a/1", "ward/b/2"), (), "ward"),
        (("1", "2"), (), "."),
        (("ward/1.dcm",), (), "ward/1.dcm"),
        (("ward/Doe_Jane/1", "ward/Doe_Jane/2"), ("jane",), "ward/*"),
        (("DOE-JANE/x/1", "DOE-JANE/x/2"), ("doejane",), "*/x"),
        (("1953-03-03/x/1", "1953-03-03/x/2"), ("19530303",), "*/x"),
        (("Müller/x/1", "Müller/x/2"), ("muller",), "*/x"),
        (("Muller/x/1", "Muller/x/2"), ("müller",), "*/x"),
        (("a\nb/1", "a\nb/2"), (), "a�b"),
    ],
)
def test_a_location_is_relative_and_names_no_patient(
    files: tuple[str, ...], words: tuple[str, ...], place: str
) -> None:
    assert study_location([ROOT / file for file in files], ROOT, words) == place
