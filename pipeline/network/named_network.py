"""A network that the user names: a class of MONAI or of the user's own, with arguments and perhaps weights."""

from torch import nn

from pipeline.data.plan import Plan
from pipeline.network.full_resolution import return_full_resolution
from pipeline.network.network_arguments import check_argument_names, network_arguments
from pipeline.network.network_class import create
from pipeline.network.network_noise import seeded_generators
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.nnunet_network import initialize
from pipeline.network.pretrained import depends_on_classes, load_pretrained, read_weights


def check_network(spec: NetworkSpec) -> None:
    """Refuse a network whose class, names of arguments or file of weights cannot be used, before a dataset is read.

    Raises
    ------
    ConfigError
        If the class cannot be imported or lacks an argument, or the file cannot be read as weights.
    """
    check_argument_names(spec)
    if spec.weights is not None:
        read_weights(spec.weights)


def build_named_network(
    spec: NetworkSpec, plan: Plan, in_channels: int, classes: int, seed: int
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the network of `spec` with weights drawn from `seed`, or with its pretrained weights.

    Parameters
    ----------
    spec
        Class, arguments and weights.
    plan
        A plan that `pipeline.network.patch_fitting.fit_patch` has fitted to the network.
    in_channels, classes
        Channels of the image, and classes including the background.
    seed
        Seed of the initial weights. The global random generators are left unchanged.

    Returns
    -------
    tuple
        The network, and the names of the tensors that its pretrained weights lack. The network maps images
        (B, in_channels, *patch) to logits (B, classes, *patch). Of several outputs, e.g. for deep supervision, it
        returns the one at full resolution.

    Raises
    ------
    ConfigError
        If the network cannot be built, or if its weights cannot be read or do not match.
    """
    arguments = network_arguments(spec, plan, in_channels, classes)
    with seeded_generators(seed):
        network = create(spec, arguments)
        initialize(network)
    drawn: tuple[str, ...] = ()
    if spec.weights is not None:
        other = network_arguments(spec, plan, in_channels, classes + 1)
        drawn = load_pretrained(network, spec.weights, depends_on_classes(spec, arguments, other))
    return return_full_resolution(network, spec.name, classes), drawn
