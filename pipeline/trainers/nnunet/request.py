"""What a study may ask of nnU-Net: configurations and plans."""

import importlib.util

from pipeline.errors import ConfigError

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
DEFAULT_CONFIGURATION = "3d_fullres"

PLANNERS = {
    "nnUNetPlans": "ExperimentPlanner",
    "nnUNetResEncUNetMPlans": "nnUNetPlannerResEncM",
    "nnUNetResEncUNetLPlans": "nnUNetPlannerResEncL",
    "nnUNetResEncUNetXLPlans": "nnUNetPlannerResEncXL",
}
"""Planner class of nnU-Net for each name of plans."""

DEFAULT_PLANS = "nnUNetPlans"


def check_request(configuration: str, plans: str) -> None:
    """Check that nnU-Net is installed and knows configuration and plans.

    Raises
    ------
    ConfigError
        If it is not, or does not.
    """
    if configuration not in CONFIGURATIONS:
        raise ConfigError(
            f"--configuration {configuration}", "is not a configuration", f"choose from {', '.join(CONFIGURATIONS)}"
        )
    if plans not in PLANNERS:
        raise ConfigError(f"--plans {plans}", "are unknown plans", f"choose from {', '.join(PLANNERS)}")
    if importlib.util.find_spec("nnunetv2") is None:
        raise ConfigError("--trainer nnunet", "needs nnU-Net v2", "pip install 'whichloss[nnunet]'")
