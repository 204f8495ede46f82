import nibabel as nib
import numpy as np
import pytest

from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import pair
from pipeline.data.dataset import Case
from pipeline.records.table import scores_frame
from pipeline.training.collapse import failed_scores


@pytest.fixture
def originals(tmp_path):
    """One case of 30 x 40 x 120 mm."""
    path = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((30, 20, 24), np.uint8), np.diag([1.0, 2.0, 5.0, 1.0])), path)
    return {"case1": Case(id="case1", images=(path,), label=path, patient="p1")}


def test_a_collapsed_training_has_the_values_of_a_miss(originals):
    metrics = ("dice", "hausdorff95_mm", "nsd", "ece", "volume_error_ml")
    scores = failed_scores(originals, {1: "liver"}, metrics)
    assert [(score.metric, score.value) for score in scores] == [
        ("dice", 0.0),
        ("hausdorff95_mm", 130.0),
        ("nsd", 0.0),
        ("ece", 1.0),
        ("volume_error_ml", None),
    ]
    assert {(score.case, score.class_name, score.state) for score in scores} == {("case1", "liver", "collapsed")}


def test_the_comparison_has_nothing_to_guess_for_such_values(originals):
    rows, collapsed = usable_rows(scores_frame("ce", 0, 0, failed_scores(originals, {1: "liver"}, ("hausdorff95_mm",))))
    paired = pair(rows, "hausdorff95_mm")
    assert collapsed == {"ce": 1}
    assert paired is not None
    assert (paired.imputed_count, paired.means.tolist()) == (0, [130.0])
