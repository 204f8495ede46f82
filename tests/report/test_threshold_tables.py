import numpy as np
import pandas as pd
from fake_study import write_fake_study

from pipeline.records.gather import gather_cases, gather_thresholds
from pipeline.records.study import run_folders
from pipeline.report.build import build_report

GRID = (0.25, 0.5, 0.75)


def leave_thresholds(study, peaks):
    """Dice at three thresholds for each run, best at the loss's own."""
    cases = gather_cases(study)
    half = cases[(cases["metric"] == "dice") & cases["value"].notna()]
    for run in run_folders(study):
        mine = half[(half["loss"] == run.key.loss) & (half["fold"] == run.key.fold) & (half["seed"] == run.key.seed)]
        levels = [mine.assign(threshold=level, dice=mine["value"] - abs(level - peaks[run.key.loss])) for level in GRID]
        columns = ["loss", "fold", "seed", "case", "class", "threshold", "dice"]
        pd.concat(levels)[columns].to_csv(run.thresholds, index=False)


def test_the_report_shows_whether_losses_or_thresholds_differ(tmp_path):
    study = write_fake_study(tmp_path, losses=("dice", "ce"), noise=(0.9, 0.9), folds=3, seeds=1, cases=9)
    leave_thresholds(study, {"dice": 0.5, "ce": 0.25})
    verdict = build_report(study)
    page = study.report.read_text(encoding="utf-8")
    losses = {loss.name: loss for loss in verdict.operating_points.losses}
    assert losses["ce"].thresholds["Anterior"].median == 0.25
    assert np.isclose(losses["ce"].gain, 0.25)
    assert "Loss or threshold?" in page
    assert "at best thresholds" in page
    assert verdict.operating_points.words[0].replace("'", "&#39;") in page


def test_a_study_without_thresholds_has_no_section_on_them(tmp_path):
    study = write_fake_study(tmp_path, losses=("dice", "ce"), noise=(0.9, 0.9), folds=2, seeds=1, cases=6)
    assert gather_thresholds(study).empty
    assert build_report(study).to_json()["operating_points"] == {}
    assert "Loss or threshold?" not in study.report.read_text(encoding="utf-8")


def test_a_control_arm_is_in_the_report_and_never_recommended(tmp_path):
    study = write_fake_study(tmp_path, losses=("dice", "dice-aa"), noise=(1.5, 0.5), folds=3, seeds=1, cases=9)
    verdict = build_report(study)
    assert verdict.recommended == "dice"
    assert "Two arms with the same loss (dice, dice-aa) differ by" in study.report.read_text(encoding="utf-8")
