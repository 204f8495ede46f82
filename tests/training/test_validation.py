"""The last point of the curves is a by-product of the predictions out of fold, and the same as a validation's."""

import nibabel as nib
import numpy as np
import torch

from pipeline.data.dataset import Case
from pipeline.network.architecture import build_network
from pipeline.training.validation import predict_out_of_fold, validate


def test_the_curves_last_point_is_that_of_a_validation_of_the_same_cases(plan, prepared, tmp_path):
    originals = {}
    for case in prepared:
        label = tmp_path / f"{case.id}.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(case.label()), np.asarray(case.affine)), label)
        originals[case.id] = Case(case.id, (label,), label, case.id)
    classes, device = {1: "ball"}, torch.device("cpu")
    network = build_network(plan, 1, 2, 0, 0)
    found = predict_out_of_fold(network, prepared, originals, plan, classes, "float32", device, None, 4)
    point = validate(network, prepared[:4], plan, classes, "float32", device)
    assert found.curve.event() == point.event()
    assert {score.case for score in found.curve.scores} == {case.id for case in prepared[:4]}
    assert {score.case for score in found.scores} == {case.id for case in prepared}
