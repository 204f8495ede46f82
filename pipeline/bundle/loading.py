"""From the files of a bundle to its model: specification, configurations and weights are checked, then it is built."""

import json
import re
import sys
from typing import Any

import torch
from torch import nn

from pipeline.bundle.checking import Refused, check_configuration, check_metadata, parse_json
from pipeline.bundle.configurations import configurations
from pipeline.bundle.manifest import Contents, allow_code_remedy, is_version
from pipeline.bundle.metadata import LARGE_FILES
from pipeline.bundle.named_network import remains_without_values
from pipeline.bundle.segmentation_model import Model
from pipeline.bundle.specification import BundleSpec, parse_spec
from pipeline.bundle.stored_weights import read_weights
from pipeline.bundle.template import Config, Json
from pipeline.errors import BundleError
from pipeline.network.network_class import SequencesOnCpu

METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
_AGAIN = "export the bundle again with `whichloss export`"
_LARGE_FILES = re.compile(
    rb'large_files:\n- path: "models/model\.(pt|safetensors)"\n  url: ""\n'
    rb'  hash_val: "[0-9a-f]{64}"\n  hash_type: "sha256"\n'
)
"""The only content that MONAI's ``download_large_files`` may read: other addresses or paths could write anywhere."""


def open_contents(contents: Contents, device: torch.device, *, trusted: bool = False) -> Model:
    """Return the model of a bundle whose files were compared with its manifest.

    Parameters
    ----------
    contents
        The files.
    device
        Device of the network.
    trusted
        True if the bundle's own code may run; its configurations are then not checked.

    Raises
    ------
    BundleError
        Naming the file and the key that is refused.
    """
    root = contents.root
    for name in (METADATA, INFERENCE):
        if name not in contents.files:
            raise BundleError(root / name, "is missing", _AGAIN)
    metadata = read_metadata(contents, trusted=trusted)
    spec = parse_spec(metadata.get("segloss"), root / METADATA)
    version = metadata.get("version", contents.version)
    if not is_version(version):
        raise BundleError(root / METADATA, f"version: {str(version)[:40]!a} is malformed", "write e.g. 1.0.0")
    config = dict(json.loads(contents.read(INFERENCE))) if trusted else _checked_inference(contents, spec)
    parts = _build(contents, config, trusted)
    network: nn.Module = parts["network_def"]
    network.load_state_dict(read_weights(contents, network.state_dict()), strict=True, assign=True)
    if without := remains_without_values(network):
        raise BundleError(contents.root / INFERENCE, f"network_def: no weight gives {without} a value", _AGAIN)
    network = network.to(device).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return Model(
        name=spec.name,
        version=version,
        sha256=contents.sha256,
        channels=spec.channels,
        classes=dict(spec.classes),
        fingerprint=spec.fingerprint.model_dump(),
        segments={value: segment.model_dump() for value, segment in spec.segments.items()},
        series_rules=[dict(rule) for rule in spec.series_rules],
        spacing_mm=spec.spacing_mm,
        patch=spec.patch,
        overlap=spec.overlap,
        batch=spec.batch,
        precision=spec.precision,
        tta=spec.tta,
        device=device,
        network=network,
        preprocessing=parts["preprocessing"],
        inferer=parts["inferer"],
        restoring=parts["restoring"],
        deciding=parts["deciding"],
    )


def read_metadata(contents: Contents, *, trusted: bool = False) -> Config:
    """Return ``configs/metadata.json``, checked to be plain text and numbers unless `trusted`.

    Raises
    ------
    BundleError
        Naming the key that is refused.
    """
    value = _json(contents, METADATA)
    try:
        if not trusted:
            check_metadata(value)
    except Refused as refused:
        raise _refusal(contents, METADATA, refused) from None
    return value if isinstance(value, dict) else {}


def _checked_inference(contents: Contents, spec: BundleSpec) -> Config:
    """Return the inference configuration once every configuration is what `whichloss export` writes for `spec`."""
    if spec.recipe is None:
        raise BundleError(
            contents.root / METADATA, "segloss::recipe is missing: an earlier version exported this bundle", _AGAIN
        )
    expected = {f"configs/{name}.json": config for name, config in configurations(spec, spec.recipe).items()}
    for name in sorted(contents.files):
        if not name.startswith("configs/") or name == METADATA:
            continue
        if name not in expected:
            raise BundleError(
                contents.root / name, "is not a configuration that `whichloss export` writes", "remove it"
            )
        try:
            check_configuration(_json(contents, name), expected[name])
        except Refused as refused:
            raise _refusal(contents, name, refused) from None
    if LARGE_FILES in contents.files and not _LARGE_FILES.fullmatch(contents.read(LARGE_FILES)):
        raise BundleError(
            contents.root / LARGE_FILES, "differs from the file that `whichloss export` writes", "remove it"
        )
    return expected[INFERENCE]


def _json(contents: Contents, name: str) -> Json:
    try:
        return parse_json(contents.read(name))
    except Refused as refused:
        raise _refusal(contents, name, refused) from None


def _refusal(contents: Contents, name: str, refused: Refused) -> BundleError:
    """Return the error for a refused key; trust is offered for code only, never for data."""
    remedy = allow_code_remedy(contents.root) if refused.is_code else _AGAIN
    return BundleError(contents.root / name, str(refused), remedy)


def _build(contents: Contents, config: Config, trusted: bool) -> dict[str, Any]:
    """Return network, transforms and inferer, built by MONAI's parser.

    Unless trusted, the network is built on the device ``meta``, without memory: the weights follow once their names and
    shapes were compared with it.
    """
    from monai.bundle.config_parser import ConfigParser

    if trusted:
        sys.path.insert(1, str(contents.root))
    built: dict[str, Any] = {}
    parser = ConfigParser(config)
    for name in ("preprocessing", "inferer", "restoring", "deciding", "network_def"):
        try:
            on_meta = name == "network_def" and not trusted
            with torch.device("meta" if on_meta else "cpu"), SequencesOnCpu():
                built[name] = parser.get_parsed_content(name)
        except Exception as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise BundleError(contents.root / INFERENCE, f"{name}: could not be built ({reason})", _AGAIN) from error
    return built
