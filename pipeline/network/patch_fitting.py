"""The patch and the window that a network accepts."""

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.network.network_spec import NetworkSpec


def fit_patch(plan: Plan, spec: NetworkSpec, in_channels: int, classes: int) -> Plan:
    """Return the plan with a patch, a window and a batch that fit a network, and with the reasons for a change.

    Parameters
    ----------
    plan
        Plan of the dataset; it is returned unchanged for its own network.
    spec
        The network.
    in_channels
        Channels of the image.
    classes
        Classes, including the background.

    Raises
    ------
    ConfigError
        If the network cannot be built or accepts no patch of about this size.
    """
    if not spec.is_default:
        raise ConfigError(f"--network {spec.text}", "cannot be built yet", "use the network of the plan")
    return plan
