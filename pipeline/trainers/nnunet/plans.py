"""`nnUNetPlans.json` and other plans of nnU-Net: what a configuration plans."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import RecordError
from pipeline.records.study import PlanRecord
from pipeline.trainers.nnunet.json_file import read_json_object

FIELDS = {"spacing": "spacing_mm", "patch_size": "patch", "batch_size": "batch", "features": "channels"}
"""Name of each setting in a plan of a study."""


def read_configurations(path: Path, remedy: str) -> dict[str, dict[str, Any]]:
    """Return the settings of all configurations; a cascade inherits those that it does not state.

    Parameters
    ----------
    path
        File with plans.
    remedy
        Advice for a file that cannot be used.

    Raises
    ------
    RecordError
        If the file cannot be read, or a configuration inherits from one that is not there.
    """
    known = read_json_object(path, remedy).get("configurations", {})
    return {name: _inherited(name, known, path, remedy) for name in known}


def _inherited(name: str, known: Mapping[str, Any], path: Path, remedy: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    ancestor: str | None = name
    while ancestor is not None:
        if ancestor not in known:
            raise RecordError(path, f"has no configuration {ancestor}", remedy)
        found = known[ancestor] | found
        ancestor = known[ancestor].get("inherits_from")
    network = found.get("architecture", {}).get("arch_kwargs", {})
    return found | {"features": network.get("features_per_stage")}


def plan_of(configuration: Mapping[str, Any]) -> PlanRecord:
    """Return the settings of a configuration that a plan of a study has, too.

    Examples
    --------
    >>> plan_of({"patch_size": [40, 56, 40], "batch_size": 9}).patch
    (40, 56, 40)
    """
    known = {ours: configuration[name] for name, ours in FIELDS.items() if configuration.get(name) is not None}
    return PlanRecord.model_validate(known)
