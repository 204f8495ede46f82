"""Opening a bundle: manifest, allow-list, weights; only then is anything parsed or built."""

import io
import json
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.bundle.allowlist import Refused, check_inference, check_other, parse_json
from pipeline.bundle.configs import STEMMED
from pipeline.bundle.manifest import Contents, allow_code_remedy, identify, verify
from pipeline.bundle.model import Model
from pipeline.bundle.registry import is_registered, registered_folder
from pipeline.bundle.spec import BundleSpec, parse_spec
from pipeline.errors import BundleError

METADATA, INFERENCE = "configs/metadata.json", "configs/inference.json"
SAFETENSORS, PICKLED = "models/model.safetensors", "models/model.pt"
_AGAIN = "export the bundle again with `segloss export`"


def open_bundle(bundle: Path | str, device: torch.device, allow_code: str | None) -> Model:
    """Return the model of a bundle; see `pipeline.bundle.model.load_model`."""
    root = registered_folder(str(bundle)) if is_registered(bundle) else Path(bundle)
    if allow_code is not None:
        found = identify(root) if root.is_dir() else None
        if found is not None and allow_code != found:
            raise BundleError(
                root, f"is not the bundle that --allow-code names; its hash is {found}", "give the hash you checked"
            )
    trusted = allow_code is not None
    contents = verify(root, trusted=trusted)
    for name in (METADATA, INFERENCE):
        if name not in contents.files:
            raise BundleError(root / name, "is missing", _AGAIN)
    config = _checked_configs(contents, trusted)
    metadata = _json(contents, METADATA)
    spec = parse_spec(metadata.get("segloss") if isinstance(metadata, dict) else None, root / METADATA)
    if not trusted:
        _check_agreement(contents, config, spec)
    weights = _weights(contents)
    parts = _build(contents, config, trusted)
    network = _with_weights(parts["network_def"], weights, root).to(device).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return Model(
        name=spec.name,
        version=str(metadata.get("version", contents.version)),
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


def _json(contents: Contents, name: str) -> Any:
    try:
        return parse_json(contents.read(name))
    except Refused as refused:
        raise BundleError(contents.root / name, str(refused), _AGAIN) from None


def _checked_configs(contents: Contents, trusted: bool) -> dict[str, Any]:
    """Return the inference configuration once every configuration of the bundle is on the allow-list."""
    if trusted:
        return dict(json.loads(contents.read(INFERENCE)))
    for name in sorted(contents.files):
        if name.startswith("configs/") and name != METADATA:
            value = _json(contents, name)
            try:
                (check_inference if name == INFERENCE else check_other)(value)
            except Refused as refused:
                raise BundleError(contents.root / name, str(refused), allow_code_remedy(contents.root)) from None
    return dict(_json(contents, INFERENCE))


def _check_agreement(contents: Contents, config: dict[str, Any], spec: BundleSpec) -> None:
    """Refuse a configuration that contradicts the metadata, e.g. windows larger than it says."""
    inferer = config["inferer"]
    told = {
        "inferer::roi_size": (inferer.get("roi_size"), list(spec.patch)),
        "inferer::sw_batch_size": (inferer.get("sw_batch_size"), spec.batch),
        "inferer::overlap": (inferer.get("overlap"), spec.overlap),
    }
    definition = config["network_def"]
    if definition == STEMMED:
        told["into::in_channels"] = (config["into"].get("in_channels"), len(spec.channels))
        told["out_of::out_channels"] = (config["out_of"].get("out_channels"), len(spec.classes) + 1)
    elif isinstance(definition, dict):
        told["network_def::in_channels"] = (definition.get("in_channels"), len(spec.channels))
        told["network_def::out_channels"] = (definition.get("out_channels"), len(spec.classes) + 1)
    elif f"member_{spec.members - 1}" not in config or "members" not in config:
        raise BundleError(contents.root / INFERENCE, f"members: are not the {spec.members} of the metadata", _AGAIN)
    for index, step in enumerate(config["preprocessing"]["transforms"]):
        if step["_target_"] == "Spacingd":
            key = f"preprocessing::transforms::{index}::pixdim"
            told[key] = (step.get("pixdim"), list(spec.spacing_mm))
    for key, (found, expected) in told.items():
        if found != expected:
            raise BundleError(contents.root / INFERENCE, f"{key}: is {found}, the metadata says {expected}", _AGAIN)


def _build(contents: Contents, config: dict[str, Any], trusted: bool) -> dict[str, Any]:
    """Return network (without memory for its weights), transforms and inferer, built by MONAI's parser."""
    from monai.bundle.config_parser import ConfigParser

    if trusted:
        sys.path.insert(1, str(contents.root))
    built: dict[str, Any] = {}
    parser = ConfigParser(config)
    for name in ("preprocessing", "inferer", "restoring", "deciding", "network_def"):
        try:
            with torch.device("meta" if name == "network_def" and not trusted else "cpu"):
                built[name] = parser.get_parsed_content(name)
        except Exception as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise BundleError(contents.root / INFERENCE, f"{name}: cannot be built ({reason})", _AGAIN) from error
    return built


def _weights(contents: Contents) -> dict[str, torch.Tensor]:
    """Return the weights; never unpickles anything but tensors, and both files must hold the same."""
    import safetensors.torch

    root, found = contents.root, {}
    if SAFETENSORS in contents.files:
        try:
            found[SAFETENSORS] = safetensors.torch.load(contents.read(SAFETENSORS))
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise BundleError(root / SAFETENSORS, f"cannot be read as safetensors ({reason})", _AGAIN) from None
    if PICKLED in contents.files:
        found[PICKLED] = _unpickled(root / PICKLED, contents.read(PICKLED))
    if not found:
        raise BundleError(root / SAFETENSORS, "is missing", _AGAIN)
    for file, state in found.items():
        for name, tensor in state.items():
            if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
                raise BundleError(root / file, f"{name}: is not finite", _AGAIN)
    states = list(found.values())
    if len(states) == 2 and not _equal(*states):
        raise BundleError(root / PICKLED, f"holds other weights than {SAFETENSORS}", _AGAIN)
    return states[0]


def _unpickled(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            if packed or sum(entry.file_size for entry in entries) > len(data):
                raise BundleError(path, "is compressed, and may grow without limit", _AGAIN)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BundleError(path, f"holds more than tensors, or cannot be read ({reason})", _AGAIN) from None
    if not isinstance(state, dict) or not all(isinstance(item, torch.Tensor) for item in state.values()):
        raise BundleError(path, "is not a dictionary of tensors", _AGAIN)
    return state


def _equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _with_weights(network: nn.Module, weights: dict[str, torch.Tensor], root: Path) -> nn.Module:
    try:
        network.load_state_dict(weights, strict=True, assign=True)
    except (RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(root / INFERENCE, f"network_def: does not fit the weights ({reason})", _AGAIN) from None
    return network
