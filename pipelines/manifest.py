"""What stands beside the files of an output: how they were made, and what each of them holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANIFEST = "_manifest.json"  # the underscore keeps it out of Parquet datasets


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest of an output folder."""
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 (hex) of each Parquet file below a folder, by its path within."""
    found = {}
    for each in sorted(folder.rglob("*.parquet")):
        with each.open("rb") as file:
            found[str(each.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
