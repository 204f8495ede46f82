"""A whole small study, from a folder of NIfTI to its records."""

import dataclasses
import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tiny_dataset import make_tiny_dataset

from pipeline.data import planning
from pipeline.errors import ConfigError, RecordError
from pipeline.metrics.evaluation import evaluate_folders
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.study import read_study, run_folders
from pipeline.records.table import read_table
from pipeline.study.progress import SilentProgress
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.system.files import write_json


class RecordingProgress(SilentProgress):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    return StudyRequest(
        dataset=make_tiny_dataset(root / "balls"),
        out=root / "out",
        losses="dice,ce",
        controls="dice",
        folds=2,
        budget="12steps",
        learning_rates=(0.01,),
        jobs=1,
        precision="float32",
    )


@pytest.fixture(scope="module")
def study(request_):
    return run_study(request_)


def records(study):
    return {run.key: json.loads(run.record.read_text()) for run in run_folders(study)}


def test_every_case_is_predicted_once_by_each_loss_out_of_its_fold(study):
    table = read_table(study.cases)
    dice = table[table["metric"] == "dice"]
    assert sorted(set(dice["loss"])) == ["ce", "dice", "dice-aa"]
    assert not dice.duplicated(["loss", "case", "class"]).any()
    assert dice.groupby("loss")["case"].nunique().to_dict() == {"ce": 8, "dice": 8, "dice-aa": 8}
    folds = json.loads((study.root / "folds.json").read_text())["folds"]
    fold_of = {case: fold["fold"] for fold in folds for case in fold["cases"]}
    assert all(fold_of[case] == fold for case, fold in zip(dice["case"], dice["fold"], strict=True))


def test_evaluating_the_masks_of_a_study_gives_its_own_table(study, request_):
    table = read_table(study.cases)
    for run in run_folders(study):
        found = evaluate_folders(
            request_.dataset / "labelsTr", run.predictions, cases=json.loads(run.record.read_text())["cases"], workers=1
        )
        own = table[(table["loss"] == run.key.loss) & (table["fold"] == run.key.fold)]
        again = found.table(run.key.loss, run.key.fold, run.key.seed)
        again = again[again["metric"].isin(own["metric"])]
        keys = ["case", "class", "metric"]
        both = again.merge(own, on=keys, suffixes=("", "_of_study"), validate="one_to_one")
        assert len(both) == len(again) == len(own[own["metric"].isin(again["metric"])])
        for column in ("value", "tolerance_mm"):
            np.testing.assert_array_equal(both[column], both[f"{column}_of_study"])


def test_losses_share_weights_and_feed_and_a_control_does_not(study):
    found = records(study)
    for fold in range(2):
        dice, ce, control = (found[RunKey(loss, fold, 0)] for loss in ("dice", "ce", "dice-aa"))
        assert dice["initial_weights_hash"] == ce["initial_weights_hash"] != control["initial_weights_hash"]
        assert dice["feed_hash"] == ce["feed_hash"] != control["feed_hash"]
        assert dice["weights_hash"] != ce["weights_hash"]


def test_masks_lie_on_the_grid_of_their_image(study, request_):
    for run in run_folders(study):
        masks = sorted(run.predictions.iterdir())
        assert len(masks) == 4
        for path in masks:
            mask, image = nib.load(path), nib.load(request_.dataset / "imagesTr" / path.name)
            assert mask.shape == image.shape
            np.testing.assert_allclose(mask.affine, image.affine)


def test_the_dice_of_two_classes_at_half_is_that_of_the_mask(study):
    run = study.run(RunKey("dice", 0, 0))
    table, thresholds = read_table(run.cases), pd.read_csv(run.thresholds)
    dice = table[table["metric"] == "dice"].set_index("case")["value"]
    half = thresholds[thresholds["threshold"] == 0.5].set_index("case")["dice"]
    pd.testing.assert_series_equal(dice, half, check_names=False, atol=0.01)


def test_the_same_command_again_leaves_everything_as_it_is(study, request_):
    before = {path: path.stat().st_mtime_ns for path in study.root.rglob("*") if path.parent.parent.name == "dice"}
    table = study.cases.read_bytes()
    run_study(request_)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert study.cases.read_bytes() == table


@pytest.mark.parametrize(
    "change",
    [{"losses": "dice"}, {"folds": 4}, {"budget": "13steps"}, {"controls": ""}],
    ids=["a loss less", "other folds", "another budget", "a control less"],
)
def test_other_settings_are_refused_for_a_study_that_exists(study, request_, change):
    with pytest.raises(RecordError, match="other settings"):
        run_study(dataclasses.replace(request_, **change))


def test_a_study_begun_with_another_optimizer_is_not_continued(study, request_, tmp_path):
    begun = StudyFolder(shutil.copytree(study.root, tmp_path / "begun"))
    settings = json.loads(begun.settings.read_text())
    del settings["optimizer"]  # as before there was a choice
    write_json(begun.settings, settings)
    with pytest.raises(RecordError, match="optimizer AdamW → Muon and AdamW"):
        run_study(dataclasses.replace(request_, out=begun.root))


def test_a_study_of_a_version_without_test_time_augmentation_is_continued(study, request_, tmp_path):
    begun = StudyFolder(shutil.copytree(study.root, tmp_path / "begun"))
    settings = json.loads(begun.settings.read_text())
    del settings["request"]["tta"], settings["plan"]["tta"]
    write_json(begun.settings, settings)
    run_study(dataclasses.replace(request_, out=begun.root))
    assert begun.cases.read_bytes() == study.cases.read_bytes()


def test_a_control_of_a_loss_outside_the_study_is_refused(request_):
    with pytest.raises(ConfigError, match="--control jaccard"):
        run_study(dataclasses.replace(request_, controls="jaccard"))


def test_a_further_seed_adds_runs_and_touches_no_other(study, request_, tmp_path):
    shutil.copytree(study.root, tmp_path / "grown")
    progress = RecordingProgress()
    grown = run_study(dataclasses.replace(request_, out=tmp_path / "grown", seeds=2), progress)
    assert "6 runs more than the 6 that were planned" in progress.messages
    for run in run_folders(study):
        assert grown.run(run.key).record.read_bytes() == run.record.read_bytes()
    table = read_table(grown.cases)
    assert table.groupby("seed")["case"].nunique().to_dict() == {0: 8, 1: 8}
    first = read_table(study.cases)
    pd.testing.assert_frame_equal(table[table["seed"] == 0].reset_index(drop=True), first)


def test_ray_gives_the_same_bytes_as_this_process(study, request_, tmp_path):
    pytest.importorskip("ray")
    other = run_study(dataclasses.replace(request_, out=tmp_path / "by_ray", executor="ray"))
    assert other.cases.read_bytes() == study.cases.read_bytes()
    for run in run_folders(study):
        twin = other.run(run.key)
        assert twin.checkpoint.read_bytes() == run.checkpoint.read_bytes()
        for mask in run.predictions.iterdir():
            assert (twin.predictions / mask.name).read_bytes() == mask.read_bytes()
    assert read_study(other).runs == read_study(study).runs


def test_parts_together_give_the_same_bytes_as_the_whole(study, request_, tmp_path):
    out = tmp_path / "in_parts"
    with pytest.raises(RecordError, match="begin it with --part 0/2"):
        run_study(dataclasses.replace(request_, out=out, part=(1, 2)))
    for part in range(3):
        run_study(dataclasses.replace(request_, out=out, part=(part, 2)))
        finished = sum(run.record.exists() for run in run_folders(StudyFolder(out)))
        assert finished == 3 * part
    assert not StudyFolder(out).cases.exists()
    whole = run_study(dataclasses.replace(request_, out=out))
    assert whole.cases.read_bytes() == study.cases.read_bytes()


@pytest.mark.parametrize(("steps", "stem", "channels"), [(10, (2, 2, 2), 16), (11, (1, 1, 1), 16)])
def test_the_budget_chooses_the_network_and_a_continued_study_keeps_it(steps, stem, channels, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "LONG_STEPS", 11)
    request = StudyRequest(
        dataset=make_tiny_dataset(tmp_path / "balls", cases=4, times=2), out=tmp_path / "out", losses="ce", folds=2,
        budget=f"{steps}steps", learning_rates=(0.01,), precision="float32",
    )  # fmt: skip
    study = run_study(request, in_process=True)
    plan = read_study(study).plan
    assert (plan.stem, plan.channels[0]) == (stem, channels)
    monkeypatch.setattr(planning, "LONG_STEPS", 1 if steps < 11 else 1000)
    first = next(iter(run_folders(study)))
    before = records(study)
    first.record.unlink()
    run_study(request, in_process=True)
    assert records(study)[first.key]["weights_hash"] == before[first.key]["weights_hash"]
