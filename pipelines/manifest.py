"""What stands beside the files of an output: how they were made, and what each of them holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unskew.pipelines.durable import aside, swap
from unskew.pipelines.errors import InputError

MANIFEST = "_manifest.json"  # the underscore keeps it out of Parquet datasets


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of an output folder."""
    (folder / MANIFEST).write_text(manifest_text(manifest), encoding="utf-8")


def replace_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """Let a manifest take another's place, whole."""
    aside(path).write_text(manifest_text(manifest), encoding="utf-8")
    swap(path)


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return a manifest as it is written."""
    return json.dumps(manifest, indent=1, sort_keys=True) + "\n"


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 (hex) of each Parquet file below a folder, by its path within."""
    return {str(each.relative_to(folder)): digest(each) for each in sorted(folder.rglob("*.parquet"))}


def digest(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(path: Path, name: str = MANIFEST) -> dict[str, Any]:
    """Return the manifest of an upload."""
    try:
        manifest: dict[str, Any] = json.loads((path / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"folder `{path}` is no upload: its {name} cannot be read ({error}); run `unskew upload`"
        raise InputError(message) from error
    for each in ("sources", "views", "fingerprints", "files"):
        if not isinstance(manifest, dict) or not isinstance(manifest.get(each), dict):
            message = f"folder `{path}` is no upload: its {name} names no {each}; run `unskew upload`"
            raise InputError(message)
    return manifest


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse an upload of which a file is missing, too much, or not as it was written."""
    there, written = digests(path), manifest["files"]
    unlike = sorted(name for name in there.keys() | written.keys() if there.get(name) != written.get(name))
    if unlike:
        message = (
            f"upload `{path}` is not as it was written: {len(unlike)} file(s) differ, first `{unlike[0]}`; upload again"
        )
        raise InputError(message)
