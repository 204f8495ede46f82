"""The default rule of a bundle accepts series of the size and spacing of the training data, and no others."""

from pathlib import Path

import numpy as np
import pytest
from dicom_series import slices, write

from pipeline.bundle.series import default_series_rules
from pipeline.bundle.specification import TrainingRanges
from pipeline.inference.dicom import find_series
from pipeline.inference.dicom.rules import mismatch, parse_rules
from pipeline.inference.dicom.spacing import spacing_values

STUDY = Path(__file__).parents[4] / "shared/data/dicom/hippocampus_study"
CROPS = TrainingRanges(
    cases=200, spacing_mm=((1.0, 1.0),) * 3, shape=((31, 43), (40, 59), (24, 47)), intensity=((0.0, 1.0),)
)
"""The ranges of the hippocampus study."""


def values_of(**changes):
    return {
        "Modality": "MR", "Rows": 51, "Columns": 35, "NumberOfSlices": 32, "PixelSpacing": [1.0, 1.0],
        "SpacingBetweenSlices": 1.0,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"PixelSpacing": [0.99, 1.01]}, None),
        ({"Rows": 512, "Columns": 512}, "Rows"),
        ({"NumberOfSlices": 22}, "NumberOfSlices"),
        ({"PixelSpacing": [1.0, 4.0]}, "PixelSpacing"),
        ({"SpacingBetweenSlices": 6.5}, "SpacingBetweenSlices"),
        ({"PixelSpacing": None}, "has no PixelSpacing"),
        ({"Modality": "CT"}, "Modality"),
    ],
)
def test_size_and_spacing_decide(changes, said):
    (rule,) = parse_rules(default_series_rules("MR", CROPS))
    found = mismatch(rule, values_of(**changes))
    assert found is None if said is None else said in found


@pytest.mark.skipif(not STUDY.exists(), reason="the DICOM study of ../shared/data is not here")
def test_the_crop_is_selected_and_the_whole_head_never(tmp_path):
    rules = default_series_rules("MR", CROPS)
    (case,) = find_series(STUDY, rules)
    assert case.problem is None
    assert len(case.files) == 32
    (whole_head,) = find_series(STUDY / "12-T1post", rules)
    assert whole_head.problem is not None
    assert not whole_head.files


@pytest.mark.parametrize(("gap_mm", "is_taken"), [(1.0, True), (5.0, False)])
def test_the_distance_of_slices_is_compared_although_no_header_states_it(gap_mm, is_taken, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 99, (30, 42, 36)).astype(np.uint16)
    folder = write(tmp_path / "series", slices(pixels, spacing=(1.0, 1.0), gap_mm=gap_mm))
    (case,) = find_series(folder, default_series_rules("MR", CROPS))
    assert (case.problem is None) == is_taken


def test_spacing_is_that_of_positions_along_the_normal():
    class Plane:
        def __init__(self, z, pixel=(0.5, 0.7)):
            self.position_mm, self.pixel_spacing_mm = (0.0, 3.0, z), pixel

    axial = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    found = spacing_values([Plane(z) for z in (4.0, 0.0, 2.0, 8.0)], axial)
    assert found == {"PixelSpacing": [0.5, 0.7], "SpacingBetweenSlices": 2.0}
    assert spacing_values([Plane(1.0, pixel=None)], axial) == {}
    assert spacing_values([], None) == {}
