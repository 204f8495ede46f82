"""Reading the weights of a bundle that is not trusted: only tensors, and only of the network's names and shapes."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from pipeline.bundle.manifest import Contents
from pipeline.errors import BundleError

SAFETENSORS, PICKLED = "models/model.safetensors", "models/model.pt"
MAXIMUM_PICKLE_BYTES = 16 << 20
MAXIMUM_SHARING = 4
"""Highest ratio of the bytes of all tensors to those of the file: MONAI's DynUNet names each of its tensors twice."""

_AGAIN = "export the bundle again with `whichloss export`"
# The names that torch.save writes for a dictionary of tensors. torch's own list for `weights_only` is longer; its
# bytearray can claim all memory.
_GLOBALS = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        *(f"torch {kind}Storage" for kind in ("BFloat16", "Bool", "Byte", "Double", "Float", "Half", "Int", "Long")),
    }
)
_CALLS_BY_STACK = frozenset({"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})


def read_weights(contents: Contents, expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights by name.

    Parameters
    ----------
    contents
        A bundle with ``model.pt``, ``model.safetensors`` or both, with the same weights.
    expected
        Tensors of the network by name, possibly without memory (device ``meta``): only names, shapes and types matter.

    Raises
    ------
    BundleError
        If a file holds anything but these tensors, tensors of other shapes, or numbers that are not finite.
    """
    root = contents.root
    stored: dict[str, dict[str, torch.Tensor]] = {}
    if SAFETENSORS in contents.files:
        stored[SAFETENSORS] = _from_safetensors(root / SAFETENSORS, contents.read(SAFETENSORS))
        _check_tensors(root / SAFETENSORS, stored[SAFETENSORS], expected)
    if PICKLED in contents.files:
        stored[PICKLED] = _from_pickle(root / PICKLED, contents.read(PICKLED))
        _check_tensors(root / PICKLED, stored[PICKLED], expected)
    if not stored:
        raise BundleError(root / PICKLED, "is missing", _AGAIN)
    first, *others = stored.values()
    if any(not torch.equal(first[name], other[name]) for other in others for name in first):
        raise BundleError(
            root / PICKLED,
            f"holds other weights than {SAFETENSORS}",
            f"remove the outdated file, then run `whichloss bundle reseal {root}`",
        )
    return first


def _from_safetensors(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    import safetensors.torch

    try:
        return safetensors.torch.load(data)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise BundleError(path, f"could not be read as safetensors ({reason})", _AGAIN) from None


def _from_pickle(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        _check_archive(path, data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, zipfile.BadZipFile, EOFError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(path, f"holds more than tensors, or could not be read ({reason})", _AGAIN) from None
    if not isinstance(state, dict):
        raise BundleError(path, "is not a dictionary of tensors", _AGAIN)
    # Tensors that share memory claim more bytes than the file has.
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values() if _is_in_memory(tensor))
    if claimed > MAXIMUM_SHARING * len(data):
        raise BundleError(path, f"claims {claimed:,} bytes of tensors in a file of {len(data):,}", _AGAIN)
    return state


def _check_archive(path: Path, data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        if packed or sum(entry.file_size for entry in entries) > len(data):
            raise BundleError(path, "is compressed and may grow without limit", _AGAIN)
        if len({entry.filename.casefold() for entry in entries}) != len(entries):
            raise BundleError(path, "has two entries of the same name", _AGAIN)
        pickled = [entry for entry in entries if entry.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickled) != 1 or pickled[0].file_size > MAXIMUM_PICKLE_BYTES:
            raise BundleError(path, "is not a file of torch.save", _AGAIN)
        for operation, argument, _ in pickletools.genops(archive.read(pickled[0])):
            called = str(argument) if operation.name == "GLOBAL" else operation.name
            if called in _CALLS_BY_STACK or (operation.name == "GLOBAL" and called not in _GLOBALS):
                raise BundleError(path, f"holds more than tensors ({called[:80]!a})", _AGAIN)


def _check_tensors(path: Path, found: Mapping[str, object], expected: Mapping[str, torch.Tensor]) -> None:
    """Compare names, shapes and types before any computation: a tensor may claim far more memory than it has."""
    for name in found:
        if name not in expected:
            raise BundleError(path, f"{str(name)[:100]!a} is not a weight of the network", _AGAIN)
    for name, reference in expected.items():
        tensor = found.get(name)
        if tensor is None:
            raise BundleError(path, f"{name} is missing", _AGAIN)
        if not isinstance(tensor, torch.Tensor) or not _is_in_memory(tensor):
            raise BundleError(path, f"{name} is not an ordinary tensor in memory", _AGAIN)
        if tensor.shape != reference.shape or tensor.dtype != reference.dtype:
            raise BundleError(path, f"{name} is {_kind(tensor)}, but the network takes {_kind(reference)}", _AGAIN)
    for name, tensor in found.items():
        assert isinstance(tensor, torch.Tensor)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(path, f"{name} is not finite", _AGAIN)


def _is_in_memory(tensor: object) -> bool:
    """Return whether a value is a dense tensor in main memory with memory of its own for each element."""
    return (
        isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    )


def _kind(tensor: torch.Tensor) -> str:
    return f"{'×'.join(map(str, tensor.shape)) or 'one'} {str(tensor.dtype).removeprefix('torch.')}"
