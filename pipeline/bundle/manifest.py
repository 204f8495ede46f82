"""``manifest.json``: size and SHA-256 of every file of a bundle. Its own SHA-256 identifies the bundle."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import BundleError
from pipeline.system.files import sha256_of_file, write_json

NAME = "manifest.json"
MAXIMUM_FILES = 300
MAXIMUM_TEXT_BYTES = 4 << 20
MAXIMUM_FILE_BYTES = 8 << 30

LAYOUT = (
    r"configs/[A-Za-z0-9_.=-]+\.json",
    r"models/model\.(pt|safetensors)",
    r"docs/[A-Za-z0-9_.-]+\.(md|txt)",
    r"test_vector/[A-Za-z0-9_.-]+\.(nii\.gz|json)",
    r"LICENSE",
    r"large_files\.yml",
)
"""Every file that a bundle may hold without being trusted."""

_AGAIN = "get the bundle again, or export it again with `segloss export`"
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a bundle.

    `sha256` is the hash of the manifest, or, where there is none, of the list of all files with their hashes; `files`
    maps each path (POSIX, relative) to its hash.
    """

    root: Path
    sha256: str
    version: str
    files: dict[str, str]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file, hashed as they are read: what is used is what was verified."""
        data = (self.root / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise BundleError(self.root / name, "changed while the bundle was read", _AGAIN)
        return data


def write_manifest(root: Path, name: str, version: str) -> str:
    """Write the manifest of all files under `root` and return its hash."""
    files = {
        path: {"sha256": sha256_of_file(root / path), "bytes": (root / path).stat().st_size}
        for path in sorted(_walk(root))
        if path != NAME
    }
    write_json(root / NAME, {"schema": 1, "name": name, "version": version, "files": files})
    return sha256_of_file(root / NAME)


def identify(root: Path) -> str:
    """Return the hash that ``--allow-code`` takes; reads files, executes nothing."""
    if (root / NAME).is_file():
        return sha256_of_file(root / NAME)
    digest = hashlib.sha256()
    for path in sorted(_walk(root)):
        digest.update(f"{path}\0{sha256_of_file(root / path)}\n".encode())
    return digest.hexdigest()


def verify(root: Path, *, trusted: bool = False) -> Contents:
    """Return the contents of a bundle after comparing every file with the manifest.

    A trusted bundle may lack a manifest and hold files outside of `LAYOUT`.

    Raises
    ------
    BundleError
        For links, strange names, files that are missing, changed, too large, or not in the manifest.
    """
    found = _checked_paths(root, trusted)
    if trusted and NAME not in found:
        return Contents(root, identify(root), "", {path: sha256_of_file(root / path) for path in found})
    manifest = read_manifest(root)
    changed = f"get the bundle again; after a deliberate edit run `segloss bundle reseal {root}`"
    for path in sorted(set(manifest.files) - set(found)):
        raise BundleError(root / path, "is in the manifest but missing", changed)
    for path in sorted(set(found) - set(manifest.files) - {NAME}):
        raise BundleError(root / path, "is not in the manifest", changed)
    for path, sha256 in manifest.files.items():
        size = (root / path).stat().st_size
        if size != manifest.sizes[path]:
            raise BundleError(root / path, f"has {size} bytes, the manifest says {manifest.sizes[path]}", changed)
        if sha256_of_file(root / path) != sha256:
            raise BundleError(root / path, "does not match its hash in the manifest", changed)
    return Contents(root, manifest.sha256, manifest.version, manifest.files)


def unsealed(root: Path) -> Contents:
    """Return the files of a bundle as they are, whatever its manifest says; `sha256` and `version` are empty.

    Raises
    ------
    BundleError
        For links, strange names, and files that are too large or have no place in a bundle.
    """
    found = [path for path in _checked_paths(root, trusted=False) if path != NAME]
    for path in found:
        if _is_strange(path):
            raise BundleError(root / path, "has a name that no bundle may have", "rename it")
    return Contents(root, "", "", {path: sha256_of_file(root / path) for path in found})


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest: its own `sha256`, and the hash and the size in bytes that it states for each path."""

    sha256: str
    version: str
    files: dict[str, str]
    sizes: dict[str, int]


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of a bundle without looking at the files that it lists; a `BundleError` if it has none."""
    path = root / NAME
    if not path.is_file():
        raise BundleError(path, "is missing, so the bundle cannot be checked", _AGAIN)
    text = _read_small(path)
    manifest = _parse(path, text)
    entries: dict[str, Any] = manifest["files"]
    for name in entries:
        if _is_strange(name):
            raise BundleError(path, f"files::{name[:200]!a} is no path inside the bundle", _AGAIN)
    return Manifest(
        hashlib.sha256(text).hexdigest(),
        manifest["version"],
        {name: entry["sha256"] for name, entry in entries.items()},
        {name: entry["bytes"] for name, entry in entries.items()},
    )


def is_version(text: object) -> bool:
    """Whether a text may be the version of a bundle: up to 32 letters, digits and ``. + _ -``."""
    return isinstance(text, str) and _VERSION.fullmatch(text) is not None


def require_folder(bundle: str) -> None:
    """Refuse a bundle that is no folder and no name of the model registry, before anything slow is imported."""
    if not bundle.startswith("models:/") and not Path(bundle).is_dir():
        raise _no_folder(bundle)


def _no_folder(bundle: Path | str) -> BundleError:
    return BundleError(bundle, "is not a folder", "give the folder of a bundle, or models:/NAME@ALIAS")


def _checked_paths(root: Path, trusted: bool) -> list[str]:
    if not root.is_dir():
        raise _no_folder(root)
    found = sorted(_walk(root))
    if not trusted or NAME in found:
        for path in found:
            _check_place(root, path, trusted)
    return found


def _check_place(root: Path, path: str, trusted: bool) -> None:
    size = (root / path).stat().st_size
    limit = MAXIMUM_TEXT_BYTES if path.endswith((".json", ".md", ".txt")) else MAXIMUM_FILE_BYTES
    if size > limit:
        raise BundleError(root / path, f"has {size:,} bytes, over the limit of {limit:,}", _AGAIN)
    if trusted or path == NAME or any(re.fullmatch(pattern, path) for pattern in LAYOUT):
        return
    if path.startswith("scripts/") or path.endswith((".py", ".pyc", ".so", ".ts")):
        raise BundleError(root / path, "is code", allow_code_remedy(root))
    if path.endswith("logging.conf"):
        raise BundleError(root / path, "is evaluated as code by Python's logging", allow_code_remedy(root))
    if path.endswith((".yaml", ".yml")):
        raise BundleError(root / path, "is a configuration that cannot be checked", allow_code_remedy(root))
    # Never recommend to trust code for the sake of a table or a lock that some command left behind.
    raise BundleError(
        root / path, "is not part of the bundle", "move it out, and write outputs to another folder (--output_dir)"
    )


def allow_code_remedy(root: Path) -> str:
    """Return the remedy for a bundle that needs trust."""
    return f"remove it, or trust all code of the bundle with --allow-code {identify(root)}"


def _walk(root: Path, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all files; a `BundleError` for links, special files and too many of them."""
    count = 0
    folders = [prefix]
    while folders:
        folder = folders.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    raise BundleError(root / path, "is a link, which may lead out of the bundle", _AGAIN)
                if stat.S_ISDIR(mode):
                    if folder.count("/") > 8:
                        raise BundleError(root / path, "lies more than 8 folders deep", _AGAIN)
                    folders.append(f"{path}/")
                elif stat.S_ISREG(mode):
                    count += 1
                    if count > MAXIMUM_FILES:
                        raise BundleError(root, f"holds more than {MAXIMUM_FILES} files", _AGAIN)
                    yield path
                else:
                    raise BundleError(root / path, "is no ordinary file", _AGAIN)


def _is_strange(path: object) -> bool:
    if not isinstance(path, str) or not re.fullmatch(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*", path):
        return True
    return any(part in (".", "..") for part in path.split("/"))


def _read_small(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAXIMUM_TEXT_BYTES + 1)
    if len(data) > MAXIMUM_TEXT_BYTES:
        raise BundleError(path, f"has over {MAXIMUM_TEXT_BYTES:,} bytes", _AGAIN)
    return data


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
        version, files = value["version"], value["files"]
        sound = (
            value["schema"] == 1
            and is_version(version)
            and all(
                re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]) and isinstance(entry["bytes"], int)
                for entry in files.values()
            )
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise BundleError(path, "is no manifest of version 1", _AGAIN)
    return dict(value)
