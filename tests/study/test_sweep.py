import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError, RecordError
from pipeline.records.rate_search import RateSearch
from pipeline.records.study import read_study, run_folders
from pipeline.study.progress import SilentProgress
from pipeline.study.sweep import SweepRequest, gather_sweep, run_sweep
from pipeline.study.sweep_folder import SweepFolder
from pipeline.study.sweep_levels import make_level, small_network
from pipeline.training.learning_rate import CANDIDATES, beats_chance, default_rate

PLAN = Plan(
    spacing_mm=(2.0, 2.0, 2.0),
    patch=(32, 32, 32),
    batch=6,
    normalisation=("zscore",),
    intensity_range=((0.0, 1.0),),
    intensity_mean=(0.0,),
    intensity_std=(1.0,),
    channels=(16, 32, 64, 128),
    strides=((2, 2, 2), (2, 2, 2), (2, 2, 2)),
    tolerance_mm=2.0,
    metrics=("dice",),
    reasons={"patch": "holds the volume"},
)


def request(out, **settings):
    tiny = {"losses": "ce", "fractions": (0.05,), "seeds": 1, "cases": 4, "budget": "10steps", "shape": (16, 16, 16)}
    return SweepRequest(out=out, learning_rates=(0.01,), jobs=1, **(tiny | settings))


def test_a_level_has_one_class_of_the_fraction_asked_for_on_isotropic_grids(tmp_path):
    make_level(tmp_path / "phantoms", 0.02, cases=5, shape=(24, 24, 24))
    description = json.loads((tmp_path / "phantoms" / "dataset.json").read_text())
    assert description["labels"] == {"0": "background", "1": "foreground"}
    shares = []
    for entry in description["training"]:
        label = nib.load(tmp_path / "phantoms" / entry["label"])
        image = nib.load(tmp_path / "phantoms" / entry["image"])
        values = np.asanyarray(label.dataobj)
        assert set(np.unique(values)) == {0, 1}
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert np.ptp(label.header.get_zooms()[:3]) < 1e-3
        shares.append(values.mean())
    assert len(shares) == 5
    assert np.mean(shares) == pytest.approx(0.02, rel=0.2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["phantoms"]


def test_one_voxel_in_ten_thousand_can_be_asked_for(tmp_path):
    make_level(tmp_path / "phantoms", 0.0001, cases=2, shape=(32, 32, 32))
    for path in (tmp_path / "phantoms" / "labelsTr").iterdir():
        assert 2 <= int(np.asanyarray(nib.load(path).dataobj).sum()) <= 4


def test_a_level_that_is_there_is_left_alone(tmp_path):
    make_level(tmp_path / "phantoms", 0.05, cases=2, shape=(16, 16, 16))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "phantoms").rglob("*.nii.gz")}
    make_level(tmp_path / "phantoms", 0.05, cases=2, shape=(16, 16, 16))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "phantoms").rglob("*.nii.gz")}


def test_the_network_of_a_sweep_is_small_and_its_patch_the_whole_volume():
    plan = small_network(PLAN)
    assert plan.patch == PLAN.patch
    assert plan.channels == (8, 16, 32)
    assert len(plan.strides) == 2
    assert plan.batch == 1
    assert small_network(dataclasses.replace(PLAN, strides=((2, 2, 2), (2, 2, 1)))).strides == ((2, 2, 2), (2, 2, 1))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fractions": ()}, "different numbers above 0"),
        ({"fractions": (0.1, 0.1)}, "different numbers above 0"),
        ({"fractions": (-0.1,)}, "different numbers above 0"),
        ({"cases": 3}, "too few for 2 folds"),
        ({"losses": "dize"}, "unknown loss"),
        ({"budget": "soon"}, "must be a duration"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(tmp_path, settings, says):
    with pytest.raises(ConfigError, match=says):
        request(tmp_path / "sweep", **settings)
    assert not (tmp_path / "sweep").exists()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A sweep of one level, continued with a second level."""
    root = tmp_path_factory.mktemp("sweep") / "sweep"
    levels = []
    run_sweep(request(root), SilentProgress(), levels.append)
    first = {path: path.stat().st_mtime_ns for path in root.rglob("run.json")}
    run_sweep(request(root, fractions=(0.05, 0.01)), SilentProgress(), levels.append)
    return SweepFolder(root), first, levels


def test_a_sweep_is_continued_with_a_further_level_and_trains_nothing_twice(done):
    sweep, first, levels = done
    assert len(first) == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert len(list(sweep.root.rglob("run.json"))) == 4
    assert sweep.read_record().fractions == (0.05, 0.01)
    assert len(levels) == 3


def test_the_table_holds_every_case_of_every_level_once(done):
    sweep, *_ = done
    table = gather_sweep(sweep)
    assert sweep.table.read_text() == table.to_csv(index=False, lineterminator="\n")
    dice = table[table["metric"] == "dice"]
    assert dice.groupby(["fraction", "loss"])["case"].nunique().to_dict() == {(0.01, "ce"): 4, (0.05, "ce"): 4}
    assert len(dice) == 8


def test_the_networks_of_the_levels_are_small(done):
    sweep, *_ = done
    assert read_study(sweep.study(0.05)).plan.channels == (8, 16, 32)


def test_other_settings_are_refused(done):
    sweep, *_ = done
    with pytest.raises(RecordError, match="budget 10steps → 20steps"):
        run_sweep(request(sweep.root, budget="20steps"), SilentProgress())


def test_small_structures_get_a_recorded_rate_that_no_threshold_decides(tmp_path):
    """After 20 steps no voxel of 8 reaches one half, so that hard Dice would be 0 at every rate."""
    asked = request(tmp_path, fractions=(0.002,), budget="20steps")
    folder = run_sweep(dataclasses.replace(asked, learning_rates=None), SilentProgress())
    for run in run_folders(folder.study(0.002)):
        record = json.loads(run.record.read_text())
        search = RateSearch.from_json(record["learning_rate_search"])
        assert record["state"] == "collapsed" or record["learning_rate"] == search.chosen
        scores = {probe.learning_rate: probe.score for probe in search.last_round}
        assert set(scores) == set(CANDIDATES)
        assert len(set(scores.values())) > 1  # not all tied
        best = max(scores, key=scores.get)
        learned = beats_chance(scores[best], search.chance)
        assert (search.rule, search.chosen) == (("best", best) if learned else ("fallback", default_rate(CANDIDATES)))
        assert learned or "the learning rate is the default" in record["notes"][0]
