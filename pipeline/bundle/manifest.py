"""``manifest.json``: size and SHA-256 of every file of a bundle. Its own SHA-256 identifies the bundle."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from pipeline.errors import BundleError
from pipeline.system.files import sha256_of_file, write_json

NAME = "manifest.json"
MAXIMUM_FILES = 300
MAXIMUM_DEPTH = 8
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
"""Patterns of all files that a bundle may hold without being trusted."""

_AGAIN = "get the bundle again, or export it again with `whichloss export`"
_VERSION = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,31}"


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a bundle.

    Attributes
    ----------
    root
        Folder of the bundle.
    sha256
        Hash of the manifest; without a manifest, that of the list of all files with their hashes.
    version
        Version of the bundle; empty without a manifest.
    files
        Hash of each file by its path (POSIX, relative to `root`).
    """

    root: Path
    sha256: str
    version: str
    files: dict[str, str]

    def read(self, name: str) -> bytes:
        """Return the bytes of a file.

        They are hashed after reading, so that no other bytes than the verified ones are used.

        Raises
        ------
        BundleError
            If the file has changed since it was verified.
        """
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
    """Return the SHA-256 that identifies a bundle, as for ``--allow-code``; files are read, nothing is executed."""
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
        For links, forbidden names, and files that are missing, changed, too large, or not in the manifest.
    """
    paths = _checked_paths(root, trusted)
    if trusted and NAME not in paths:
        return Contents(root, identify(root), "", {path: sha256_of_file(root / path) for path in paths})
    manifest = read_manifest(root)
    changed = f"get the bundle again; after a deliberate edit run `whichloss bundle reseal {root}`"
    for path in sorted(set(manifest.files) - set(paths)):
        raise BundleError(root / path, "is in the manifest but missing", changed)
    for path in sorted(set(paths) - set(manifest.files) - {NAME}):
        raise BundleError(root / path, "is not in the manifest", changed)
    for path, sha256 in manifest.files.items():
        size = (root / path).stat().st_size
        if size != manifest.sizes[path]:
            raise BundleError(
                root / path, f"has {size} bytes instead of {manifest.sizes[path]} as in the manifest", changed
            )
        if sha256_of_file(root / path) != sha256:
            raise BundleError(root / path, "does not match its hash in the manifest", changed)
    return Contents(root, manifest.sha256, manifest.version, manifest.files)


def current_contents(root: Path) -> Contents:
    """Return the files of a bundle as they are, without its manifest; `sha256` and `version` are empty.

    Raises
    ------
    BundleError
        For links, forbidden names, and files that are too large or have no place in a bundle.
    """
    paths = [path for path in _checked_paths(root, trusted=False) if path != NAME]
    for path in paths:
        if not _is_safe(path):
            raise BundleError(
                root / path, "has a forbidden name", "rename it; use ASCII letters, digits, dot, dash, underscore and ="
            )
    return Contents(root, "", "", {path: sha256_of_file(root / path) for path in paths})


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest: its own `sha256`, and the hash and the size in bytes of each file by its path."""

    sha256: str
    version: str
    files: dict[str, str]
    sizes: dict[str, int]


class _StoredFile(BaseModel):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(strict=True)


class _StoredManifest(BaseModel):
    """Content of ``manifest.json``."""

    schema_version: Literal[1] = Field(alias="schema")
    version: str = Field(pattern=f"^{_VERSION}$")
    files: dict[str, _StoredFile]


def read_manifest(root: Path) -> Manifest:
    """Return the manifest of a bundle; the files that it lists are not read.

    Raises
    ------
    BundleError
        If the manifest is missing, malformed, or lists a path outside of the bundle.
    """
    path = root / NAME
    if not path.is_file():
        raise BundleError(path, "is missing, so the bundle cannot be checked", _AGAIN)
    text = _read_small(path)
    try:
        stored = _StoredManifest.model_validate_json(text)
    except ValidationError:
        raise BundleError(path, "is not a manifest of schema 1", _AGAIN) from None
    for name in stored.files:
        if not _is_safe(name):
            raise BundleError(path, f"files::{name[:200]!a} is not a path inside the bundle", _AGAIN)
    return Manifest(
        hashlib.sha256(text).hexdigest(),
        stored.version,
        {name: file.sha256 for name, file in stored.files.items()},
        {name: file.bytes for name, file in stored.files.items()},
    )


def is_version(text: object) -> bool:
    """Return whether a text may be the version of a bundle: up to 32 ASCII letters, digits and ``. + _ -``.

    Examples
    --------
    >>> is_version("1.0.0-rc.1"), is_version("newest version"), is_version(1)
    (True, False, False)
    """
    return isinstance(text, str) and re.fullmatch(_VERSION, text) is not None


def require_folder(bundle: Path) -> None:
    """Check that a bundle is a folder, without reading it.

    Raises
    ------
    BundleError
        If it is a file or does not exist.
    """
    if not bundle.is_dir():
        problem = "is not a folder" if bundle.exists() else "does not exist"
        raise BundleError(bundle, problem, "give the folder of a bundle, or models:/NAME@ALIAS")


def _checked_paths(root: Path, trusted: bool) -> list[str]:
    """Return the paths of all files in ascending order, each of them allowed in a bundle."""
    require_folder(root)
    paths = sorted(_walk(root))
    if not trusted or NAME in paths:
        for path in paths:
            _check_place(root, path, trusted)
    return paths


def _check_place(root: Path, path: str, trusted: bool) -> None:
    size = (root / path).stat().st_size
    limit = MAXIMUM_TEXT_BYTES if path.endswith((".json", ".md", ".txt")) else MAXIMUM_FILE_BYTES
    if size > limit:
        raise BundleError(root / path, f"has {size:,} bytes; the limit is {limit:,}", _AGAIN)
    if trusted or path == NAME or any(re.fullmatch(pattern, path) for pattern in LAYOUT):
        return
    if path.startswith("scripts/") or path.endswith((".py", ".pyc", ".so", ".ts")):
        raise BundleError(root / path, "is code", allow_code_remedy(root))
    if path.endswith("logging.conf"):
        raise BundleError(root / path, "is evaluated as code by Python's logging", allow_code_remedy(root))
    if path.endswith((".yaml", ".yml")):
        raise BundleError(root / path, "is a configuration in YAML, which cannot be checked", allow_code_remedy(root))
    # Trust in code must never be the remedy for a table or a lock that some command left behind.
    raise BundleError(
        root / path, "is not part of the bundle", "move it out, and write outputs to another folder (--output_dir)"
    )


def allow_code_remedy(root: Path) -> str:
    """Return the remedy for a bundle whose own code would have to run."""
    return f"remove it, or trust all code of the bundle with --allow-code {identify(root)}"


def _walk(root: Path, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all files; a `BundleError` for links, special files and too many of them."""
    # Not Path.rglob, which follows links and descends without limit.
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
                    if folder.count("/") > MAXIMUM_DEPTH:
                        raise BundleError(root / path, f"lies more than {MAXIMUM_DEPTH} folders deep", _AGAIN)
                    folders.append(f"{path}/")
                elif stat.S_ISREG(mode):
                    count += 1
                    if count > MAXIMUM_FILES:
                        raise BundleError(root, f"holds more than {MAXIMUM_FILES} files", _AGAIN)
                    yield path
                else:
                    raise BundleError(root / path, "is not a regular file", _AGAIN)


def _is_safe(path: str) -> bool:
    """Return whether a path is relative, cannot leave its folder, and means the same on every file system."""
    if not re.fullmatch(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*", path):
        return False
    return not any(part in (".", "..") for part in path.split("/"))


def _read_small(path: Path) -> bytes:
    with path.open("rb") as stream:
        data = stream.read(MAXIMUM_TEXT_BYTES + 1)
    if len(data) > MAXIMUM_TEXT_BYTES:
        raise BundleError(path, f"has more than {MAXIMUM_TEXT_BYTES:,} bytes", _AGAIN)
    return data
