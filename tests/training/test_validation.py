"""The last point of the curves comes from the out-of-fold predictions and equals that of a validation."""

import nibabel as nib
import numpy as np
import torch

from pipeline.data.dataset import Case
from pipeline.network.architecture import build_network
from pipeline.training.validation import EvaluationSettings, predict_out_of_fold, validate


def test_the_curves_last_point_is_that_of_a_validation_of_the_same_cases(plan, prepared, tmp_path):
    originals = {}
    for case in prepared:
        label = tmp_path / f"{case.id}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(case.label()), np.asarray(case.affine)), label)
        originals[case.id] = Case(case.id, (label,), label, case.id)
    settings = EvaluationSettings(plan, {1: "ball"}, "float32", torch.device("cpu"))
    network = build_network(plan, 1, 2, 0, 0)
    found = predict_out_of_fold(network, prepared, originals, settings, curve_cases=4)
    point = validate(network, prepared[:4], settings)
    assert found.curve.event(8, 1.0) == point.event(8, 1.0)
    assert {score.case for score in found.curve.scores} == {case.id for case in prepared[:4]}
    assert {score.case for score in found.scores} == {case.id for case in prepared}
