"""`segloss compare` on results folders of nnU-Net v2 and on folders of masks."""

import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "trainers"))
from fake_results import write_arm

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


def test_different_splits_are_one_line_and_unpaired_results_have_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arm(tmp_path / "data", "nnUNetTrainerCE", cases=30)
    write_arm(tmp_path / "data", "nnUNetTrainerDice", folds=3, cases=30)
    monkeypatch.setattr(sys, "argv", ["segloss", "compare", str(tmp_path / "data")])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert error.startswith("error: arms nnUNetTrainerCE and nnUNetTrainerDice: have different splits")
    assert "\n" not in error
    assert "No verdict" in run(tmp_path / "data", "--unpaired").stdout


def test_folds_that_cannot_be_read_are_listed_where_they_are_skipped(dataset: Path) -> None:
    path = dataset / "nnUNetTrainerCE__nnUNetPlans__3d_fullres" / "fold_1" / "validation" / "summary.json"
    path.write_text(path.read_text()[:99])
    assert run(dataset).exit_code != 0
    done = run(dataset, "--skip-bad", "--unpaired")
    assert f"left out: nnUNetTrainerCE, fold 1: {path}: is not whole JSON" in done.stderr


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
