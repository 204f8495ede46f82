"""``manifest.json``: the hash of every file of a bundle. Its own hash names the bundle."""

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
from pipeline.files import sha256_of_file, write_json

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
)
"""Every file that a bundle may hold without being trusted."""

_AGAIN = "get the bundle again, or export it again with `segloss export`"


@dataclass(frozen=True, slots=True)
class Contents:
    """A bundle whose files match its manifest.

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
    """Return the hash that ``--allow-code`` pins; reads files, executes nothing."""
    if (root / NAME).is_file():
        return sha256_of_file(root / NAME)
    digest = hashlib.sha256()
    for path in sorted(_walk(root)):
        digest.update(f"{path}\0{sha256_of_file(root / path)}\n".encode())
    return digest.hexdigest()


def verify(root: Path, *, trusted: bool = False) -> Contents:
    """Return the contents of a bundle after holding every file against the manifest.

    A trusted bundle may lack a manifest and hold files outside of `LAYOUT`.

    Raises
    ------
    BundleError
        For links, strange names, files that are missing, changed, too large, or not in the manifest.
    """
    if not root.is_dir():
        raise BundleError(root, "is not a folder", "give the folder of a bundle, or models:/NAME@ALIAS")
    found = sorted(_walk(root))
    if trusted and NAME not in found:
        return Contents(root, identify(root), "", {path: sha256_of_file(root / path) for path in found})
    for path in found:
        _check_place(root, path, trusted)
    if NAME not in found:
        raise BundleError(root / NAME, "is missing, so nothing says what the bundle held", _AGAIN)
    text = _read_small(root / NAME)
    manifest = _parse(root / NAME, text)
    entries: dict[str, Any] = manifest["files"]
    for path in entries:
        if _is_strange(path):
            raise BundleError(root / NAME, f"files::{path!r} is no path inside the bundle", _AGAIN)
    for path in sorted(set(entries) - set(found)):
        raise BundleError(root / path, "is in the manifest but missing", _AGAIN)
    for path in sorted(set(found) - set(entries) - {NAME}):
        raise BundleError(root / path, "is not in the manifest", _AGAIN)
    for path, entry in entries.items():
        size = (root / path).stat().st_size
        if size != entry["bytes"]:
            raise BundleError(root / path, f"has {size} bytes, the manifest says {entry['bytes']}", _AGAIN)
        if sha256_of_file(root / path) != entry["sha256"]:
            raise BundleError(root / path, "does not match its hash in the manifest", _AGAIN)
    hashes = {path: entry["sha256"] for path, entry in entries.items()}
    return Contents(root, hashlib.sha256(text).hexdigest(), manifest["version"], hashes)


def _check_place(root: Path, path: str, trusted: bool) -> None:
    size = (root / path).stat().st_size
    limit = MAXIMUM_TEXT_BYTES if path.endswith((".json", ".md", ".txt")) else MAXIMUM_FILE_BYTES
    if size > limit:
        raise BundleError(root / path, f"has {size:,} bytes, over the limit of {limit:,}", _AGAIN)
    if trusted or path == NAME or any(re.fullmatch(pattern, path) for pattern in LAYOUT):
        return
    if path.startswith("scripts/") or path.endswith((".py", ".pyc", ".so")):
        what = "is code"
    elif path.endswith("logging.conf"):
        what = "is evaluated as code by Python's logging"
    else:
        what = "has no place in a bundle that is data"
    raise BundleError(root / path, what, allow_code_remedy(root))


def allow_code_remedy(root: Path) -> str:
    """Return what to do about a bundle that needs trust."""
    return f"take it out, or trust all of its code with --allow-code {identify(root)}"


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
            and isinstance(version, str)
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
