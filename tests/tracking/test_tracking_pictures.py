import nibabel as nib
import numpy as np
import pandas as pd

from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.table import Score, scores_frame, write_table
from pipeline.tracking.pictures import ranked_cases, widest_slice, write_overlays


def table(**dice):
    rows = [(case, "dice", value) for case, value in dice.items()]
    return pd.DataFrame(rows, columns=["case", "metric", "value"])


def test_worst_median_and_best_are_by_mean_dice():
    ranked = ranked_cases(table(a=0.9, b=0.1, c=0.5, d=None))
    assert ranked == [("worst", "b", 0.1), ("best", "a", 0.9), ("median", "c", 0.5)]


def test_one_case_is_shown_once_and_none_not_at_all():
    assert [rank for rank, _, _ in ranked_cases(table(a=0.9))] == ["worst"]
    assert ranked_cases(table(a=None)) == []


def test_the_slice_is_where_the_reference_is_widest():
    reference, mask = np.zeros((4, 4, 5)), np.zeros((4, 4, 5))
    mask[:, :, 4] = 1
    assert widest_slice(reference, mask) == 4
    reference[0, 0, 1] = 1
    assert widest_slice(reference, mask) == 1
    assert widest_slice(np.zeros((2, 2, 6)), np.zeros((2, 2, 6))) == 3


def test_pictures_are_named_by_rank_and_missing_files_left_out(tmp_path):
    run = RunFolder(tmp_path / "run", RunKey("dice", 0, 0))
    scores = [Score(case, "a", "dice", value, "ok") for case, value in (("p1", 0.2), ("p2", 0.9))]
    write_table(run.cases, scores_frame("dice", 0, 0, scores))
    run.predictions.mkdir(parents=True)
    volume = np.zeros((8, 9, 10), np.uint8)
    volume[2:5, 2:5, 4] = 1
    for path in (tmp_path / "image.nii.gz", tmp_path / "label.nii.gz", run.predictions / "p1.nii.gz"):
        nib.save(nib.Nifti1Image(volume, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    files = {"images": [str(tmp_path / "image.nii.gz")], "label": str(tmp_path / "label.nii.gz")}
    write_overlays(run, {"p1": files, "p2": files}, [1], tmp_path / "overlays")
    assert [path.name for path in (tmp_path / "overlays").iterdir()] == ["worst.png"]
