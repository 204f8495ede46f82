"""The hash of a network's weights."""

import hashlib

from torch import nn


def weights_hash(network: nn.Module) -> str:
    """Return the SHA-256, in hexadecimal, of the names and values of all weights.

    The wrappers of `torch.compile` and of `DistributedDataParallel`, which rename weights, change nothing.
    """
    for wrapped in ("module", "_orig_mod"):
        network = getattr(network, wrapped, network)
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
