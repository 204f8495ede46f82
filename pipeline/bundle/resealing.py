"""Resealing: a new manifest after a deliberate edit of a bundle, with the change recorded in the model card."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

from pipeline.bundle.loading import METADATA, open_contents, read_metadata
from pipeline.bundle.manifest import (
    Contents,
    Manifest,
    current_contents,
    is_version,
    read_manifest,
    verify,
    write_manifest,
)
from pipeline.bundle.markdown import without_markup
from pipeline.bundle.metadata import LARGE_FILES, large_files
from pipeline.bundle.segmentation_model import Model
from pipeline.bundle.template import Config
from pipeline.bundle.testvector import FOLDER, read_expected, write_expected
from pipeline.bundle.verification import compare_test_vector, name_problems
from pipeline.errors import BundleError, ConfigError
from pipeline.system.files import write_json, write_text

CARD = "docs/README.md"
HEADING = "## Changes after export"
MAXIMUM_NOTE = 500


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that differs from the manifest; `before` and `after` are its hashes, None if it did not exist."""

    path: str
    before: str | None
    after: str | None

    @property
    def kind(self) -> Literal["added", "removed", "changed"]:
        """Return the kind of change.

        Examples
        --------
        >>> FileChange("docs/site.md", before=None, after="ab12").kind
        'added'
        """
        return "added" if self.before is None else "removed" if self.after is None else "changed"


@dataclass(frozen=True, slots=True)
class Resealed:
    """Result of `reseal`.

    `results` lists the differences of the test vector's result from that before the edit. Without `changes` nothing was
    written.
    """

    root: Path
    changes: tuple[FileChange, ...]
    results: tuple[str, ...]
    version_before: str
    version: str
    sha256_before: str
    sha256: str


def reseal(root: Path, note: str = "", check_model: Callable[[Model], object] = lambda model: None) -> Resealed:
    """Write a new manifest for an edited bundle and record the change in its card and metadata.

    The files are checked as when the bundle is opened, so that an edit never admits code. Where the edit changes the
    results, the test vector is computed again. The last number of the version is increased unless the edit changed it.

    Parameters
    ----------
    root
        Folder of the bundle.
    note
        The reason for the edit, up to 500 characters; it is added to the card.
    check_model
        Raises an error for a model that must not be resealed, e.g. for series rules that cannot be used.

    Raises
    ------
    BundleError
        If the bundle has no manifest, or would be refused after the edit; nothing is written then.
    ConfigError
        If the note is too long or has control characters.
    """
    if len(note) > MAXIMUM_NOTE or not note.isprintable():
        raise ConfigError("--note", f"must be one line of at most {MAXIMUM_NOTE} characters", "shorten it")
    current = current_contents(root)
    before = read_manifest(root)
    changes = _changes(before, current)
    if not changes:
        return Resealed(root, (), (), before.version, before.version, before.sha256, before.sha256)
    model = open_contents(current, torch.device("cpu"))
    check_model(model)
    metadata = read_metadata(current)
    if problems := name_problems(metadata, model):
        raise BundleError(root / METADATA, problems[0], "give the same names in segloss::classes and channel_def")
    results = compare_test_vector(root, model).problems
    version = _next_version(before.version, model.version)
    # From here on files change. The manifest comes last: a bundle whose resealing was interrupted stays refused.
    if results:
        write_expected(root, model, [root / FOLDER / name for name in read_expected(root).inputs])
    _record_in_metadata(root, metadata, version, changes, note)
    _record_in_card(root, model, version, _entry(before, version, changes, results, note))
    if (root / LARGE_FILES).is_file():
        write_text(root / LARGE_FILES, large_files(root))
    sha256 = write_manifest(root, model.name, version)
    verify(root)
    return Resealed(root, changes, results, before.version, version, before.sha256, sha256)


def _changes(before: Manifest, current: Contents) -> tuple[FileChange, ...]:
    return tuple(
        FileChange(path, before.files.get(path), current.files.get(path))
        for path in sorted(before.files.keys() | current.files.keys())
        if before.files.get(path) != current.files.get(path)
    )


def _next_version(before: str, now: str) -> str:
    """Return the version after an edit: that of the metadata if it was edited too, else the next one.

    Examples
    --------
    >>> _next_version("1.0.9", "1.0.9"), _next_version("1.0.9", "2.0.0"), _next_version("beta", "beta")
    ('1.0.10', '2.0.0', 'beta.1')
    """
    if now != before:
        return now
    head, number = re.fullmatch(r"(.*?)(\d*)", before).groups()  # type: ignore[union-attr]
    following = f"{head}{int(number) + 1}" if number else f"{head}.1"
    return following if is_version(following) else before


def _record_in_metadata(root: Path, metadata: Config, version: str, changes: Sequence[FileChange], note: str) -> None:
    """Set the version and add to MONAI's changelog."""
    text = f"resealed after an edit: {', '.join(f'{change.path} {change.kind}' for change in changes)[:1000]}"
    changelog = metadata.get("changelog")
    history = dict(changelog) if isinstance(changelog, dict) else {}
    edited = {**metadata, "version": version, "changelog": {**history, version: f"{text}. {note}" if note else text}}
    write_json(root / METADATA, edited)


def _entry(before: Manifest, version: str, changes: Sequence[FileChange], results: Sequence[str], note: str) -> str:
    """Return the section of the card for one edit."""
    lines = [f"### {version}, {datetime.now(UTC):%Y-%m-%d}", ""]
    if note:
        lines += [without_markup(note), ""]
    lines += [f"- `{change.path}` {change.kind}{_hashes(change)}" for change in changes]
    if results:
        lines += ["- **The results changed.** The test vector was computed again:"]
        lines += [f"  - {without_markup(line)}" for line in results]
    else:
        lines.append("- The test vector gives the same result as before the edit.")
    lines.append(f"- Manifest before the edit: `{before.sha256}`.")
    return "\n".join(lines)


def _hashes(change: FileChange) -> str:
    if change.kind != "changed":
        return ""
    return f" (SHA-256 `{str(change.before)[:12]}…` before, `{str(change.after)[:12]}…` after the edit)"


def _record_in_card(root: Path, model: Model, version: str, entry: str) -> None:
    path = root / CARD
    card = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else f"# {model.name}\n"
    title, _, rest = card.partition("\n")
    if title.startswith(f"# {model.name}"):
        title = f"# {model.name} {version}"
    card = f"{title}\n{rest}".rstrip() + "\n"
    if HEADING not in card.splitlines():
        card += f"\n{HEADING}\n\nThe statements above describe the bundle as it was exported.\n"
    write_text(path, f"{card}\n{entry}\n")
