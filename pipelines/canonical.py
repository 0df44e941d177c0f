"""The one canonical form of JSON, and fingerprints of it."""

from __future__ import annotations

import hashlib
import json


def canonical(value: object) -> str:
    """Write JSON in its one canonical form: sorted keys, no spaces, UTF-8 kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def fingerprint(value: object) -> str:
    """Return the sha256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
