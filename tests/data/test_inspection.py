import json
import math
from dataclasses import replace

import pytest
from scanned_cases import MRI, scan, scanned

from pipeline.data.class_weights import POLICIES
from pipeline.data.dataset import Problem
from pipeline.data.fingerprint import ClassScan
from pipeline.data.inspection import ComponentSizes, Spread, inspect_scan
from pipeline.data.inspection_tables import inspection_tables
from pipeline.data.planning import make_plan
from pipeline.data.scan import ScanResult


def inspected(*scans, problems=(), **options):
    dataset, fingerprint = scanned(*scans, **options)
    plan = make_plan(dataset, fingerprint) if scans else None
    return inspect_scan(dataset, ScanResult(dataset, fingerprint, tuple(problems)), plan)


def test_volumes_are_those_of_the_cases_that_have_the_class():
    found = inspected(scan("a", voxels=(900, 100)), scan("b", voxels=(800, 0)), scan("c", voxels=(850, 300)))
    background, thing = found.classes
    assert (thing.cases, thing.voxels) == (2, 400)
    assert thing.volume_ml == Spread(0.1, 0.2, 0.2, 0.3)
    assert thing.share_of_foreground == 1
    assert thing.share_of_voxels == pytest.approx(400 / 2950)
    assert (background.volume_ml, background.share_of_foreground, background.cases) == (None, None, 3)
    assert found.imbalance_ratio == pytest.approx(2550 / 400)


def test_the_mean_piece_is_the_whole_volume_over_all_pieces():
    lesions = ClassScan(100, 0.1, 4, 0.01, 0.06, (9.0, 9.0, 9.0))
    one = scan("a", voxels=(900, 100))
    found = inspected(replace(one, classes={0: one.classes[0], 1: lesions}), scan("b", voxels=(900, 200)))
    assert found.classes[1].component_ml == ComponentSizes(0.01, pytest.approx(0.3 / 5), 0.2)
    assert found.classes[1].components == Spread(1, 2.5, 2.5, 4)


def test_shapes_and_spacings_are_along_ras():
    found = inspected(scan("a", shape=(30, 20, 10), spacing=(3, 2, 1), orientation="SAR"))
    assert [axis.max for axis in found.shape] == [10, 20, 30]
    assert [axis.median for axis in found.spacing_mm] == [1, 2, 3]
    assert found.orientations == {"SAR": 1}


def test_json_has_the_documented_keys_and_only_numbers_that_json_knows():
    problem = Problem("b.nii.gz", "b", "is empty", "take it out", "error")
    odd = replace(MRI, maximum=math.inf)
    content = inspected(scan("a", channels=(odd,)), problems=[problem]).to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["cases"] == 1
    assert [item["name"] for item in content["classes"]] == ["background", "class 1", "class 2"]
    assert content["problems"] == [
        {"file": "b.nii.gz", "case": "b", "problem": "is empty", "remedy": "take it out", "severity": "error"}
    ]
    assert content["plan"]["patch"] == [32, 48, 32]
    assert content["metrics"] == content["plan"]["metrics"]
    assert set(content["class_weights"]) == set(POLICIES)
    assert content["channels"][0]["maximum"] is None


def test_extreme_imbalance_is_flagged_for_people_and_programs():
    extreme = inspected(scan("a", voxels=(1_000_000, 100)))
    assert extreme.to_json()["imbalance_is_extreme"]
    assert any("collapse" in table.caption for table in inspection_tables(extreme))
    assert not inspected(scan("a")).to_json()["imbalance_is_extreme"]


def test_every_row_of_every_table_fits_its_header():
    empty = replace(MRI, foreground_mean=None, foreground_std=None)
    found = inspected(
        scan("a", channels=(empty, MRI), voxels=(900, 0, 4)), scan("b", channels=(empty, MRI)), channels=("T1", "T2")
    )
    for table in inspection_tables(found):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.header)}


def test_without_a_usable_case_an_inspection_has_only_problems():
    content = inspected(problems=[Problem("a", "a", "is broken", "mend it", "error")])
    assert inspection_tables(content) == []
    printed = content.to_json()
    assert (printed["cases"], printed["classes"], printed["plan"], len(printed["problems"])) == (0, [], None, 1)
