"""What the configuration of a bundle may say: known targets with known arguments, and a fixed list of expressions.

MONAI's parser imports what ``_target_`` names, evaluates what begins with ``$``, reads other files for ``%``, and some
targets import by their arguments (``reader`` of ``LoadImaged``). So the configuration is held against this list as
plain JSON, and only then parsed. Every string must be one that is listed here.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pipeline.bundle import configs

Check = Callable[[Any], bool]
MAXIMUM_DEPTH = 24
EXPRESSIONS = frozenset(
    {
        *configs.IMPORTS,
        configs.DEVICE,
        configs.NETWORK,
        configs.MEMBERS,
        configs.STEMMED,
        configs.MODEL_FILE,
        configs.PREDICTIONS,
        configs.INFER_FILES,
        configs.INFER_FIRST_CHANNELS,
        configs.INFER_DATA,
        configs.INFER_CHANNEL_DATA,
        configs.RUN,
    }
)
"""The expressions that an inference configuration may hold, to the letter (beside the members of an ensemble)."""

_MEMBER = re.compile(r"\$torch\.nn\.Sequential\(\*@member_\d{1,2}\)")


class Refused(Exception):
    """A key of a configuration that is not allowed, and why."""

    def __init__(self, key: str, problem: str) -> None:
        self.key, self.problem = key, problem
        super().__init__(f"{key or 'the file'}: {problem}")


def _one_of(*values: Any) -> Check:
    return lambda value: any(type(value) is type(item) and value == item for item in values)


def _whole(low: int, high: int) -> Check:
    return lambda value: type(value) is int and low <= value <= high


def _number(low: float = -1e9, high: float = 1e9) -> Check:
    return lambda value: type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def _list_of(check: Check, most: int = 64) -> Check:
    return lambda value: isinstance(value, list) and 0 < len(value) <= most and all(map(check, value))


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def _match(pattern: str) -> Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_flag: Check = _one_of(True, False)
_key = _either(_match(r"image(_\d{1,2})?"), _one_of("pred"))
_keys = _either(_key, _list_of(_key))
_size = _either(_whole(1, 7), _list_of(_whole(1, 7), 3))
_indices = _list_of(_whole(0, 65535), 256)
_refers: Callable[[str], Check] = lambda name: _one_of(f"@{name}")  # noqa: E731

NETWORKS: dict[str, dict[str, Check]] = {
    "DynUNet": {
        "spatial_dims": _one_of(3),
        "in_channels": _whole(1, 64),
        "out_channels": _whole(2, 256),
        "kernel_size": _list_of(_size, 9),
        "strides": _list_of(_size, 9),
        "upsample_kernel_size": _list_of(_size, 9),
        "filters": _list_of(_whole(1, 1024), 9),
        "norm_name": _one_of(["INSTANCE", {"affine": True}]),
        "act_name": _one_of(["leakyrelu", {"inplace": True, "negative_slope": 0.01}]),
    },
    "torch.nn.Conv3d": {
        "in_channels": _whole(1, 1 << 14),
        "out_channels": _whole(1, 1024),
        "kernel_size": _either(_one_of(1), _size),
        "stride": _size,
        "bias": _one_of(False),
    },
    "torch.nn.ConvTranspose3d": {
        "in_channels": _whole(1, 1024),
        "out_channels": _whole(2, 256),
        "kernel_size": _size,
        "stride": _size,
    },
    "monai.networks.layers.SkipConnection": {
        "submodule": _match(_MEMBER.pattern),
        "dim": _one_of(1),
        "mode": _one_of("cat"),
    },
}

TRANSFORMS: dict[str, dict[str, Check]] = {
    "LoadImaged": {"keys": _keys, "reader": _one_of("NibabelReader"), "image_only": _one_of(True)},
    "EnsureChannelFirstd": {"keys": _keys},
    "EnsureTyped": {"keys": _keys, "dtype": _one_of("float32")},
    "Orientationd": {
        "keys": _keys,
        "axcodes": _one_of("RAS"),
        "labels": _one_of([["L", "R"], ["P", "A"], ["I", "S"]]),
    },
    "Spacingd": {
        "keys": _keys,
        "pixdim": _list_of(_number(0.01, 100), 3),
        "mode": _one_of("bilinear"),
        "padding_mode": _one_of("border"),
    },
    "NormalizeIntensityd": {
        "keys": _keys,
        "nonzero": _flag,
        "channel_wise": _flag,
        "subtrahend": _number(),
        "divisor": _number(1e-9),
    },
    "ScaleIntensityRanged": {
        "keys": _keys,
        "a_min": _number(),
        "a_max": _number(),
        "b_min": _number(),
        "b_max": _number(),
        "clip": _flag,
    },
    "SplitDimd": {"keys": _keys, "output_postfixes": _list_of(_match(r"\d{1,2}")), "dim": _one_of(0)},
    "ConcatItemsd": {"keys": _keys, "name": _one_of("image"), "dim": _one_of(0)},
    "DeleteItemsd": {"keys": _keys},
    "Activationsd": {"keys": _keys, "softmax": _flag},
    "Invertd": {
        "keys": _one_of("pred"),
        "transform": _refers("preprocessing"),
        "orig_keys": _one_of("image"),
        "nearest_interp": _flag,
        "to_tensor": _flag,
    },
    "AsDiscreted": {"keys": _keys, "argmax": _flag},
    "KeepLargestConnectedComponentd": {
        "keys": _keys,
        "applied_labels": _indices,
        "is_onehot": _one_of(False),
        "independent": _flag,
    },
    "MapLabelValued": {"keys": _keys, "orig_labels": _indices, "target_labels": _indices},
    "SaveImaged": {
        "keys": _one_of("pred"),
        "output_dir": _refers("output_dir"),
        "output_postfix": _match(r"[a-z0-9_]{1,32}"),
        "output_dtype": _one_of("uint8", "uint16"),
        "resample": _one_of(False),
        "separate_folder": _flag,
        "data_root_dir": _refers("dataset_dir"),
        "print_log": _flag,
    },
}

ENGINES: dict[str, dict[str, Check]] = {
    "Dataset": {
        "data": _one_of(configs.INFER_DATA, configs.INFER_CHANNEL_DATA),
        "transform": _refers("preprocessing"),
    },
    "DataLoader": {
        "dataset": _refers("dataset"),
        "batch_size": _one_of(1),
        "shuffle": _one_of(False),
        "num_workers": _whole(0, 16),
    },
    "SlidingWindowInferer": {
        "roi_size": _list_of(_whole(1, 1024), 3),
        "sw_batch_size": _whole(1, 64),
        "overlap": _number(0, 0.9),
        "mode": _one_of("gaussian", "constant"),
        "padding_mode": _one_of("constant"),
    },
    "CheckpointLoader": {
        "load_path": _one_of(configs.MODEL_FILE),
        "load_dict": _one_of({"model": "@network"}),
        "map_location": _refers("device"),
    },
    "SupervisedEvaluator": {
        "device": _refers("device"),
        "val_data_loader": _refers("dataloader"),
        "network": _refers("network"),
        "inferer": _refers("inferer"),
        "postprocessing": _refers("postprocessing"),
        "key_val_metric": _refers("key_metric"),
        "val_handlers": _refers("handlers"),
        "amp": _flag,
    },
}


def _component(config: Any, path: str, allowed: Mapping[str, Mapping[str, Check]]) -> None:
    """Check one object with ``_target_``."""
    if not isinstance(config, dict):
        raise Refused(path, "is not an object")
    target = config.get("_target_")
    if not isinstance(target, str) or target not in allowed:
        raise Refused(f"{path}::_target_", f"{_shown(target)} is not on the allow-list")
    for name, value in config.items():
        if name == "_target_":
            continue
        check = allowed[target].get(name)
        if check is None:
            raise Refused(f"{path}::{name}", f"is not an allowed argument of {target}")
        if not check(value):
            raise Refused(f"{path}::{name}", f"{_shown(value)} is not allowed")


def _components(allowed: Mapping[str, Mapping[str, Check]], most: int = 200) -> Callable[[Any, str], None]:
    def check(config: Any, path: str) -> None:
        if not isinstance(config, list) or len(config) > most:
            raise Refused(path, f"is not a list of at most {most}")
        for index, item in enumerate(config):
            _component(item, f"{path}::{index}", allowed)

    return check


def _chain(*references: str) -> Callable[[Any, str], None]:
    """Return a check of a ``Compose``: transforms on the list, or exactly the given references."""

    def check(config: Any, path: str) -> None:
        transforms = config.get("transforms") if isinstance(config, dict) else None
        if not isinstance(config, dict) or config.get("_target_") != "Compose":
            raise Refused(f"{path}::_target_", "is not Compose")
        for name in set(config) - {"_target_", "transforms"}:
            raise Refused(f"{path}::{name}", "is not an allowed argument of Compose")
        if references and transforms != list(references):
            raise Refused(f"{path}::transforms", f"is not {', '.join(references)}")
        if not references:
            _components(TRANSFORMS)(transforms, f"{path}::transforms")

    return check


def _target(name: str) -> Callable[[Any, str], None]:
    return lambda config, path: _component(config, path, {name: (ENGINES | TRANSFORMS)[name]})


def _exactly(check: Check) -> Callable[[Any, str], None]:
    def checked(config: Any, path: str) -> None:
        if not check(config):
            raise Refused(path, f"{_shown(config)} is not allowed")

    return checked


def _network(config: Any, path: str) -> None:
    if config not in (configs.MEMBERS, configs.STEMMED):
        _one("DynUNet")(config, path)


def _one(target: str) -> Callable[[Any, str], None]:
    return lambda config, path: _component(config, path, {target: NETWORKS[target]})


INFERENCE: dict[str, Callable[[Any, str], None]] = {
    "imports": _exactly(_list_of(_one_of(*configs.IMPORTS))),
    "bundle_root": _exactly(_one_of(".")),
    "dataset_dir": _exactly(_one_of(".")),
    "output_dir": _exactly(_one_of(configs.PREDICTIONS)),
    "device": _exactly(_one_of(configs.DEVICE)),
    "channels": _exactly(_whole(1, 64)),
    "files": _exactly(_one_of(configs.INFER_FILES, configs.INFER_FIRST_CHANNELS)),
    "network_def": _network,
    "into": _one("torch.nn.Conv3d"),
    "unet": _one("DynUNet"),
    "out_of": _one("torch.nn.ConvTranspose3d"),
    "members": _components(NETWORKS, 65),
    "network": _exactly(_one_of(configs.NETWORK)),
    "preprocessing": _chain(),
    "dataset": _target("Dataset"),
    "dataloader": _target("DataLoader"),
    "inferer": _target("SlidingWindowInferer"),
    "restoring": _chain(),
    "deciding": _chain(),
    "saving": _target("SaveImaged"),
    "postprocessing": _chain("@restoring", "@deciding", "@saving"),
    "key_metric": _exactly(_one_of(None)),
    "handlers": _components({"CheckpointLoader": ENGINES["CheckpointLoader"]}, 1),
    "evaluator": _target("SupervisedEvaluator"),
    "run": _exactly(_one_of([configs.RUN])),
}
"""What stands at each key of ``configs/inference.json``; those of `OPTIONAL` may be missing."""

STEM = frozenset({"into", "unet", "out_of"})
OPTIONAL = frozenset({"channels", "members"}) | STEM


def parse_json(data: bytes) -> Any:
    """Return JSON of limited depth, with unique keys and finite numbers; `Refused` else."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise Refused(name, "stands twice in one object")
            found[name] = value
        return found

    def constant(text: str) -> float:
        raise Refused("", f"holds {text}, which is no JSON")

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise Refused("", f"cannot be read as JSON ({str(error).splitlines()[0]})") from None
    _check_depth(value, "", 0)
    return value


def check_inference(config: Any) -> None:
    """Hold ``configs/inference.json`` against the list; `Refused` names the first key that is not allowed."""
    if not isinstance(config, dict):
        raise Refused("", "is not an object")
    for name, value in config.items():
        if re.fullmatch(r"member_\d{1,2}", name):
            _components(NETWORKS, 4)(value, name)
        elif name in INFERENCE:
            INFERENCE[name](value, name)
        else:
            raise Refused(name, "is not an allowed key")
    stemmed = STEM if config.get("network_def") == configs.STEMMED else frozenset()
    for name in INFERENCE:
        if name not in config and name not in OPTIONAL - stemmed:
            raise Refused(name, "is missing")


def check_other(config: Any) -> None:
    """Hold a configuration that is not read here (training, evaluation) against targets and expressions of our own.

    It is refused as well, since who trains with the bundle will execute it.
    """
    targets, expressions = own_words()
    _check_words(config, "", targets, expressions)


@cache
def own_words() -> tuple[frozenset[str], frozenset[str]]:
    """Return all targets and expressions of the configurations that ``segloss export`` writes."""
    from pipeline.bundle.training_configs import every_config

    targets, expressions = set(NETWORKS) | set(TRANSFORMS) | set(ENGINES), set(EXPRESSIONS)

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            if "_target_" in value:
                targets.add(value["_target_"])
            for item in value.values():
                collect(item)
        elif isinstance(value, list):
            for item in value:
                collect(item)
        elif isinstance(value, str) and value.startswith("$"):
            expressions.add(value)

    for config in every_config():
        collect(config)
    return frozenset(targets), frozenset(expressions)


def _check_words(value: Any, path: str, targets: frozenset[str], expressions: frozenset[str]) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            key = f"{path}::{name}" if path else name
            if name == "_target_":
                if not isinstance(item, str) or item not in targets:
                    raise Refused(key, f"{_shown(item)} is not on the allow-list")
            elif name.startswith("_") and name not in ("_disabled_", "_desc_"):
                raise Refused(key, "is not allowed")
            elif name == "reader" and item != "NibabelReader":
                raise Refused(key, f"{_shown(item)} is not allowed")
            else:
                _check_words(item, key, targets, expressions)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_words(item, f"{path}::{index}", targets, expressions)
    elif isinstance(value, str):
        if value.startswith("$") and value not in expressions and not _MEMBER.fullmatch(value):
            raise Refused(path, f"{_shown(value)} is not an allowed expression")
        if value.startswith("%"):
            raise Refused(path, f"{_shown(value)} reads another file")


def _check_depth(value: Any, path: str, depth: int) -> None:
    if depth > MAXIMUM_DEPTH:
        raise Refused(path[:80], f"is nested more than {MAXIMUM_DEPTH} deep")
    if isinstance(value, dict):
        for name, item in value.items():
            _check_depth(item, f"{path}::{name}" if path else name, depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_depth(item, f"{path}::{index}", depth + 1)


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
