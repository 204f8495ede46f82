"""`whichloss compare` on results folders of nnU-Net v2 and on folders of masks."""

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "trainers"))
from fake_results import write_arm
from fake_study import write_fake_study

from pipeline.cli.app import build_app, main

RUNNER = CliRunner()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "Dataset001_Livers"
    write_arm(root, "nnUNetTrainerCE", folds=3, cases=30, both=60, epochs=8)
    write_arm(root, "nnUNetTrainerDice", folds=3, cases=30, both=70)
    return root


def run(*arguments: object):
    return RUNNER.invoke(build_app(), ["compare", *map(str, arguments)])


def test_results_give_a_verdict_a_table_of_trainings_and_a_report(dataset: Path, tmp_path: Path) -> None:
    done = run(dataset, "--out", tmp_path / "study", "--arms", "nnUNetTrainerDice=dice,nnUNetTrainerCE=ce")
    assert done.exit_code == 0, done.output
    assert "Use dice: on 30 cases, its Dice is better" in done.stdout
    assert "Trainings found" in done.stderr
    assert "The arms share cases and splits, plans, configuration." in done.stdout
    assert {path.name for path in (tmp_path / "study").iterdir()} >= {"study.json", "cases.csv", "report.html"}
    page = (tmp_path / "study" / "report.html").read_text()
    assert "not recorded" in page


def test_the_verdict_on_results_is_json_without_a_folder(dataset: Path) -> None:
    done = run(dataset, "--json", "--metrics", "iou")
    verdict = json.loads(done.stdout)
    assert (verdict["primary"], verdict["recommended"]) == ("iou", "nnUNetTrainerDice")


def test_among_equal_arms_the_cheapest_is_recommended(tmp_path: Path) -> None:
    write_arm(tmp_path, "nnUNetTrainerSlow", folds=3, cases=30, epochs=9)
    write_arm(tmp_path, "nnUNetTrainerFast", folds=3, cases=30, epochs=4)
    done = run(tmp_path)
    assert "Use nnUNetTrainerFast: its trainings take the least time." in done.stdout


BAD = {
    "empty folder": "nnUNetTrainerC__nnUNetPlans__3d_fullres: holds no results of nnU-Net v2",
    "fold without summary": "fold_1/validation/summary.json: cannot be read (No such file or directory)",
    "truncated summary": "fold_1/validation/summary.json: is not whole JSON",
    "foreign JSON": "fold_1/validation/summary.json: is not a summary of nnU-Net v2",
    "other cases": "arms nnUNetTrainerA and nnUNetTrainerC: have different cases: case_9 (only nnUNetTrainerC)",
    "other folds": "arms nnUNetTrainerA and nnUNetTrainerC: have different splits: case_2 (folds 2 and 0)",
    "case in two folds": "fold_1/validation/summary.json: has case case_0, which fold 0 has too",
    "no dataset": "dataset.json: cannot be read",
    "plans of another": "plans.json: has no configuration 3d_fullres",
}


def write_bad_arm(root: Path, change: str) -> Path:
    """Write two good arms and one with a defect, which is returned."""
    for trainer in ("nnUNetTrainerA", "nnUNetTrainerB"):
        write_arm(root, trainer, folds=3, cases=9)
    if change == "other folds":
        return write_arm(root, "nnUNetTrainerC", folds=2, cases=9)
    arm = write_arm(root, "nnUNetTrainerC", folds=3, cases=10 if change == "other cases" else 9)
    summary = arm / "fold_1" / "validation" / "summary.json"
    if change == "empty folder":
        shutil.rmtree(arm)
        arm.mkdir()
    elif change == "fold without summary":
        summary.unlink()
    elif change == "truncated summary":
        summary.write_text(summary.read_text()[:99])
    elif change == "foreign JSON":
        summary.write_text('{"metrics": [1, 2]}')
    elif change == "case in two folds":
        shutil.copy(arm / "fold_0" / "validation" / "summary.json", summary)
    elif change == "no dataset":
        (arm / "dataset.json").unlink()
    elif change == "plans of another":
        (arm / "plans.json").write_text('{"configurations": {}}')
    return arm


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Function that runs the command as a terminal does, and returns its exit code and stderr."""

    def call(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["whichloss", "compare", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr().err.strip()

    return call


@pytest.mark.parametrize("change", BAD)
def test_bad_input_is_one_line_or_left_out(tmp_path: Path, command, change: str) -> None:
    arm = write_bad_arm(tmp_path, change)
    folders = [tmp_path / f"nnUNetTrainer{name}__nnUNetPlans__3d_fullres" for name in "ABC"]
    code, error = command(*folders)
    assert code == 2
    assert error.startswith("error: ")
    assert BAD[change] in error
    assert "\n" not in error
    code, shown = command(*folders, "--skip-bad", "--out", tmp_path / "out")
    assert code == 0, shown
    assert BAD[change].split(": ")[-1] in shown
    assert "left out: nnUNetTrainerC" in shown
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    of_fold = ("fold without summary", "truncated summary", "foreign JSON", "case in two folds")
    expected = {"nnUNetTrainerA", "nnUNetTrainerB"} | ({arm.name.split("__")[0]} if change in of_fold else set())
    assert {loss["name"] for loss in verdict["losses"]} == expected
    assert verdict["cases"] == (6 if change in of_fold else 9)


def test_two_arms_of_different_splits_are_refused_even_if_bad_ones_are_skipped(tmp_path: Path, command) -> None:
    write_arm(tmp_path, "nnUNetTrainerA", folds=3, cases=9)
    write_arm(tmp_path, "nnUNetTrainerB", folds=2, cases=9)
    code, error = command(tmp_path, "--skip-bad")
    assert code == 2
    assert error.startswith("error: arms nnUNetTrainerA and nnUNetTrainerB: have different splits")


def test_a_folder_without_results_is_one_line(tmp_path: Path, command) -> None:
    code, error = command(tmp_path)
    assert (code, error.count("\n")) == (2, 0)
    assert error.startswith(f"error: {tmp_path}: holds no results of nnU-Net v2")


def test_unpaired_results_have_no_verdict(tmp_path: Path) -> None:
    write_arm(tmp_path / "data", "nnUNetTrainerCE", cases=30)
    write_arm(tmp_path / "data", "nnUNetTrainerDice", folds=3, cases=30)
    assert "No verdict" in run(tmp_path / "data", "--unpaired").stdout


def test_a_report_shows_the_verdict_of_the_comparison(dataset: Path, tmp_path: Path) -> None:
    options = ["--metrics", "iou,dice", "--classes", "tumor", "--margin-dice", "0.02", "--confidence", "0.9"]
    done = run(dataset, "--out", tmp_path / "study", *options)
    assert done.exit_code == 0, done.output
    verdict = (tmp_path / "study" / "verdict.json").read_text()
    (tmp_path / "study" / "verdict.json").unlink()
    again = RUNNER.invoke(build_app(), ["report", str(tmp_path / "study")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "study" / "verdict.json").read_text() == verdict
    assert json.loads(verdict)["primary"] == "iou"


def test_a_study_of_ours_is_compared_with_nnunet(tmp_path: Path) -> None:
    own = write_fake_study(tmp_path / "own", losses=("dice", "dice_ce"), noise=(0.9, 0.8), seeds=1, size=20).root
    labels = {"background": 0, "Anterior": 1, "Posterior": 2}
    write_arm(tmp_path / "results", "nnUNetTrainer", folds=3, cases=12, labels=labels, name="case_{:02}")
    done = run(tmp_path / "results", own, "--arms", "nnUNetTrainer=nnU-Net,dice_ce", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "nnU-Net v2 trained nnU-Net; whichloss 0.1.0 trained dice_ce" in done.stdout
    assert "scores of study: cases.csv of the study" in done.stderr


def test_masks_add_surface_metrics_where_references_are_given(tmp_path: Path) -> None:
    references = tmp_path / "labelsTr"
    references.mkdir()
    for trainer, radius in (("nnUNetTrainerA", 4), ("nnUNetTrainerB", 5)):
        arm = write_arm(tmp_path / "results", trainer, cases=6)
        for case in range(6):
            save(references / f"case_{case}.nii.gz", 5)
            save(arm / f"fold_{case % 2}" / "validation" / f"case_{case}.nii.gz", radius)
    done = run(tmp_path / "results", "--references", references, "--json")
    verdict = json.loads(done.stdout)
    assert "hausdorff95_mm" in verdict["smallest_detectable"]
    assert verdict["candidates"][0] == "nnUNetTrainerB"


def test_folders_of_masks_are_evaluated_and_compared(tmp_path: Path) -> None:
    for case in range(6):
        save(tmp_path / "references" / f"case_{case}.nii.gz", 5)
        save(tmp_path / "good" / f"case_{case}.nii.gz", 5 - case % 2)
        save(tmp_path / "bad" / f"case_{case}.nii.gz", 3)
    splits = tmp_path / "splits_final.json"
    cases = [f"case_{case}" for case in range(6)]
    splits.write_text(json.dumps([{"train": cases[3:], "val": cases[:3]}, {"train": cases[:3], "val": cases[3:]}]))
    options = [f"--predictions={name}={tmp_path / name}" for name in ("bad", "good")]
    done = run(*options, "--references", tmp_path / "references", "--folds", splits, "--json")
    verdict = json.loads(done.stdout)
    assert (verdict["candidates"][0], verdict["cases"]) == ("good", 6)
    assert verdict["replicated"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "0 files: are not one table"),
        (["--predictions", "a=masks"], "--predictions: need references"),
        (["--predictions", "a", "--references", "masks"], "--predictions a: must be LOSS=FOLDER"),
    ],
)
def test_requests_that_lack_something_are_refused(arguments: list[str], problem: str) -> None:
    done = run(*arguments)
    assert problem in str(done.exception)


def save(path: Path, radius: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"), -1)
    mask = (np.linalg.norm(grid - 7.5, axis=-1) < radius).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), path)
