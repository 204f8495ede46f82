"""The validation metrics of MONAI's configurations, as expressions that MONAI evaluates.

They are computed for every case alike. A class that neither mask shows is undefined (NaN). If only one mask shows it,
the overlap is 0 and the distance is the diagonal of the image in mm. The spacing is that of the image itself, so that
distances are in mm; MONAI's own Ignite handlers measure voxels.
"""

_PRESENT = "({0}[:, 1:].flatten(2).sum(-1) > 0)"
_IN_PRED, _IN_LABEL = _PRESENT.format("pred"), _PRESENT.format("label")


def _dice() -> str:
    return (
        f"$lambda pred, label: torch.where({_IN_PRED} | {_IN_LABEL}, monai.metrics.compute_dice(pred.as_tensor(), "
        "label.as_tensor(), include_background=False, ignore_empty=False), torch.nan)"
    )


def _hausdorff(percentile: int | None) -> str:
    return (
        f"$lambda pred, label: torch.where({_IN_PRED} & {_IN_LABEL}, monai.metrics.compute_hausdorff_distance("
        f"pred.as_tensor(), label.as_tensor(), include_background=False, percentile={percentile}, "
        f"spacing=label.pixdim.tolist()), torch.where({_IN_PRED} | {_IN_LABEL}, float(np.linalg.norm(np.multiply("
        "label.shape[2:], label.pixdim.tolist()))), torch.nan))"
    )


METRIC_EXPRESSIONS = {"dice": _dice(), "hausdorff_mm": _hausdorff(None), "hausdorff95_mm": _hausdorff(95)}
"""The expression of each metric, by its name in `pipeline.records.metrics`."""
