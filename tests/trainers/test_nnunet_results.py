"""Results of nnU-Net v2 become records with the numbers of its summaries."""

import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest
from fake_results import counts, write_arm

from pipeline.errors import ConfigError, RecordError
from pipeline.records.events import TrainEvent, ValidationEvent
from pipeline.records.folder import StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.run import read_traces
from pipeline.records.study import read_study
from pipeline.report.build import build_report
from pipeline.trainers.combined_study import shared_conditions, write_study
from pipeline.trainers.found import find_trainings
from pipeline.trainers.nnunet.records import read_results
from pipeline.trainers.nnunet.results import find_arms, is_results
from pipeline.trainers.nnunet.summary import class_names
from pipeline.trainers.pairing import PairingRules, paired_results
from pipeline.trainers.trainings import Results

REAL = Path(__file__).parents[3] / "shared" / "data" / "nnunet_results"
needs_real_results = pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is absent")


def results_of(*paths: Path, skip_bad: bool = False) -> Results:
    return Results((read_results(find_arms(paths), skip_bad),))


def study_of(root: Path, *paths: Path) -> StudyFolder:
    return write_study(results_of(*paths), root / "study")


def test_arms_are_named_by_what_differs_and_folds_are_found(tmp_path: Path) -> None:
    write_arm(tmp_path, "nnUNetTrainerCE")
    write_arm(tmp_path, "nnUNetTrainerDice", folds=3)
    ce, dice = find_arms([tmp_path])
    assert (ce.label, dice.label) == ("nnUNetTrainerCE", "nnUNetTrainerDice")
    assert (list(ce.folds), list(dice.folds)) == ([0, 1], [0, 1, 2])
    assert is_results(tmp_path)
    assert not is_results(tmp_path / "nnUNetTrainerCE__nnUNetPlans__3d_fullres" / "fold_0")


def test_a_second_folder_and_a_seeded_trainer_are_seeds(tmp_path: Path) -> None:
    write_arm(tmp_path / "a", "nnUNetTrainerCE")
    write_arm(tmp_path / "b", "nnUNetTrainerCE")
    write_arm(tmp_path / "a", "nnUNetTrainerCE_seed7")
    arms = find_arms([tmp_path / "a", tmp_path / "b"])
    assert [(arm.label, arm.seed) for arm in arms] == [
        ("nnUNetTrainerCE", 0),
        ("nnUNetTrainerCE", 7),
        ("nnUNetTrainerCE", 8),
    ]


def test_arms_are_selected_and_renamed(tmp_path: Path) -> None:
    for trainer in ("CE", "Dice", "TopK"):
        write_arm(tmp_path, f"nnUNetTrainer{trainer}")
    arms = find_trainings([tmp_path], "nnUNetTrainerTopK, nnUNetTrainerCE = ce").arms
    assert [arm.label for arm in arms] == ["ce", "nnUNetTrainerTopK"]
    with pytest.raises(ConfigError, match="nnUNetTrainerX: is not among the results; choose from nnUNetTrainerCE"):
        find_trainings([tmp_path], "nnUNetTrainerX")
    with pytest.raises(ConfigError, match="gives two arms one name"):
        find_trainings([tmp_path], "nnUNetTrainerCE=a,nnUNetTrainerDice=a")


def test_states_and_metrics_follow_from_counts(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "nnUNetTrainer", folds=1, cases=2)
    path = arm / "fold_0" / "validation" / "summary.json"
    content = json.loads(path.read_text())
    found = {"1": counts(100, 60, 50), "2": counts(0, 7, 0)}
    content["metric_per_case"][1]["metrics"] = found
    content["metric_per_case"].append({"metrics": {"1": counts(9, 0, 0)}, "prediction_file": "x/case_2.nrrd"})
    path.write_text(json.dumps(content))
    rows = gather_cases(study_of(tmp_path, tmp_path)).set_index(["case", "class", "metric"])
    assert set(rows.loc[("case_0", "liver")]["state"]) == {"correct_absence"}
    assert rows.loc[("case_0", "liver")]["value"].isna().all()
    liver = rows.loc[("case_1", "liver")]["value"]
    assert dict(liver) == {
        "dice": 100 / 160,
        "iou": 50 / 110,
        "sensitivity": 0.5,
        "precision": 50 / 60,
        "volume_error": 2 * 40 / 160,
    }
    assert set(rows.loc[("case_1", "tumor")]["state"]) == {"false_positive"}
    assert set(rows.loc[("case_2", "liver")]["state"]) == {"missed"}
    assert rows.loc[("case_2", "liver", "volume_error")]["value"] == 2.0


def test_regions_are_named_by_the_dataset(tmp_path: Path) -> None:
    assert class_names({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}) == {
        "(1, 2, 3)": "whole",
        "(2, 3)": "core",
    }
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    write_arm(tmp_path, "nnUNetTrainer", labels=labels, classes=("(1, 2)", "2"))
    assert set(gather_cases(study_of(tmp_path, tmp_path))["class"]) == {"whole", "core"}


def test_curves_times_and_settings_are_recorded(tmp_path: Path) -> None:
    write_arm(tmp_path, "nnUNetTrainerCE")
    write_arm(tmp_path, "nnUNetTrainerDice")
    study = study_of(tmp_path, tmp_path)
    record = read_study(study)
    assert record.labels == ("nnUNetTrainerCE", "nnUNetTrainerDice")
    assert (record.folds, record.seeds, record.budget.asked, record.budget.steps) == (2, (0,), "4 epochs", 1000)
    assert (record.plan.patch, record.plan.spacing_mm, record.plan.channels) == (
        (64, 96, 96),
        (2.0, 1.5, 1.5),
        (32, 64),
    )
    trace = read_traces(study)[0]
    assert trace.record is not None
    assert (trace.record.seconds, trace.record.steps) == (20.0, 1000)
    assert [event.loss for event in trace.of_kind(TrainEvent)] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert trace.of_kind(ValidationEvent)[-1].mean_dice == pytest.approx(0.3)


def test_a_study_of_results_has_a_report(tmp_path: Path) -> None:
    write_arm(tmp_path, "nnUNetTrainerCE", folds=3, cases=30, both=60)
    write_arm(tmp_path, "nnUNetTrainerDice", folds=3, cases=30, both=70)
    study = study_of(tmp_path, tmp_path)
    verdict = build_report(study)
    assert (verdict.verdict, verdict.recommended) == ("winner", "nnUNetTrainerDice")
    assert "trainer nnU-Net v2" in verdict.words[-2]
    assert study.report.exists()


def bad(tmp_path: Path, change: str) -> Path:
    arm = write_arm(tmp_path, "nnUNetTrainer")
    path = arm / "fold_1" / "validation" / "summary.json"
    if change == "missing":
        path.unlink()
    elif change == "truncated":
        path.write_text(path.read_text()[:200])
    elif change == "foreign":
        path.write_text('{"metrics": [1, 2]}')
    elif change == "another fold's case":
        shutil.copy(arm / "fold_0" / "validation" / "summary.json", path)
    elif change == "negative":
        path.write_text(path.read_text().replace('"n_ref": 100', '"n_ref": -1'))
    elif change == "plans":
        path = arm / "plans.json"
        path.write_text('{"configurations": {}}')
    return path


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("missing", "cannot be read"),
        ("truncated", "is not whole JSON"),
        ("foreign", "is not a summary of nnU-Net v2"),
        ("another fold's case", "has case case_0, which fold 0 has too"),
        ("negative", "is not a summary of nnU-Net v2"),
        ("plans", "has no configuration 3d_fullres"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(tmp_path: Path, change: str, problem: str) -> None:
    path = bad(tmp_path, change)
    with pytest.raises(RecordError) as refused:
        study_of(tmp_path, tmp_path)
    assert str(refused.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(refused.value)


def test_bad_folds_are_gaps_where_they_are_skipped(tmp_path: Path) -> None:
    bad(tmp_path, "truncated")
    write_arm(tmp_path, "nnUNetTrainerCE")
    results = results_of(tmp_path, skip_bad=True)
    assert [gap.name for gap in results.gaps] == ["nnUNetTrainer, fold 1"]
    assert len(results.trainings) == 3


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="holds no results of nnU-Net v2"):
        find_arms([tmp_path])
    (tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_all").mkdir(parents=True)
    with pytest.raises(RecordError, match="has no fold with a number"):
        find_arms([tmp_path])


@needs_real_results
@pytest.mark.parametrize("dataset", ["Dataset002_Heart", "Dataset004_Hippocampus", "Dataset005_Prostate"])
def test_every_value_of_real_results_is_that_of_the_summaries(tmp_path: Path, dataset: str) -> None:
    study = study_of(tmp_path, REAL / dataset)
    rows = gather_cases(study).set_index(["loss", "fold", "case", "class", "metric"])["value"]
    checked = 0
    for path in sorted((REAL / dataset).glob("*/fold_*/validation/summary.json")):
        arm, fold = path.parts[-4].split("__")[1], int(path.parts[-3].removeprefix("fold_"))
        labels = json.loads((path.parents[2] / "dataset.json").read_text())["labels"]
        names = {str(value): name for name, value in labels.items()}
        for entry in json.loads(path.read_text())["metric_per_case"]:
            case = Path(entry["prediction_file"]).name.removesuffix(".nii.gz")
            for key, one in entry["metrics"].items():
                values = rows.loc[(arm, fold, case, names[key])]
                assert values["dice"] == one["Dice"] or math.isnan(one["Dice"])
                assert values["iou"] == one["IoU"] or math.isnan(one["IoU"])
                found = one["TP"] / one["n_ref"] if one["n_ref"] else 0.0
                right = one["TP"] / one["n_pred"] if one["n_pred"] else 0.0
                assert values[["sensitivity", "precision"]].tolist() == pytest.approx([found, right], rel=1e-12)
                checked += 1
    assert checked * 5 == len(rows) == len(pd.Index(rows.index).unique())


def test_arms_of_one_split_are_paired(tmp_path: Path) -> None:
    write_arm(tmp_path, "nnUNetTrainerCE")
    write_arm(tmp_path, "nnUNetTrainerDice")
    results = results_of(tmp_path)
    assert paired_results(results) is results
    assert shared_conditions(results).startswith("The arms share cases and splits, plans, configuration. They do not")


@pytest.mark.parametrize(
    ("folds", "cases", "problem"),
    [
        (
            4,
            8,
            "have different splits: case_2 (folds 0 and 2), case_3 (folds 1 and 3), case_6 (folds 0 and 2) and 1",
        ),
        (2, 9, "have different cases: case_8 (only nnUNetTrainerDice)"),
    ],
)
def test_arms_of_different_splits_are_refused_by_name(tmp_path: Path, folds: int, cases: int, problem: str) -> None:
    write_arm(tmp_path, "nnUNetTrainerCE")
    write_arm(tmp_path, "nnUNetTrainerDice", folds=folds, cases=cases)
    results = results_of(tmp_path)
    with pytest.raises(RecordError) as refused:
        paired_results(results)
    assert str(refused.value).startswith(f"arms nnUNetTrainerCE and nnUNetTrainerDice: {problem}")


def test_unpaired_arms_are_compared_on_common_cases_without_folds(tmp_path: Path) -> None:
    write_arm(tmp_path, "nnUNetTrainerCE", cases=30, both=60)
    write_arm(tmp_path, "nnUNetTrainerDice", folds=3, cases=40, both=40)
    study = write_study(paired_results(results_of(tmp_path), PairingRules(unpaired=True)), tmp_path / "study")
    verdict = build_report(study)
    assert [trace.key.fold for trace in read_traces(study) if trace.record is not None] == [0, 0]
    assert len(read_traces(study)) == 2
    assert verdict.cases == 30
    assert not verdict.replicated
    assert verdict.verdict == "inconclusive"
