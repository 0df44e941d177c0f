"""Erasing an entity's records from an upload; its manifest goes along, so that it still verifies.

The new files are written aside first, then the new manifest under a name of its own: from then on the erasure is
decided, and a run that was cut off is completed by the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from unskew.backfill.erasure import Rows
from unskew.backfill.rewrite import write_without
from unskew.pipelines.durable import aside, leftovers, swap, sync
from unskew.pipelines.erasure import Subject
from unskew.pipelines.errors import InputError
from unskew.pipelines.manifest import MANIFEST, check_files, digest, read_manifest, replace_manifest
from unskew.pipelines.plan import ViewPlan

DECIDED = "_erasure.json"


@dataclass
class UploadPlace:
    """The folder of an upload."""

    who: Subject
    path: Path

    @property
    def name(self) -> str:
        """What to call it."""
        return f"upload {self.path}"

    def find(self) -> dict[str, int]:
        """Return the number of records of the entity in each view."""
        manifest = read_manifest(self.path)
        strange = sorted(manifest["views"].keys() - {each.name for each in self.who.plan.views})
        if strange:
            message = f"upload `{self.path}` holds view `{strange[0]}`, which set `{self.who.plan.name}` has not; give the definitions it was made from"
            raise InputError(message)
        if not (self.path / DECIDED).exists():
            check_files(self.path, manifest)
        found: dict[str, int] = {}
        for view, _, count in self.held():
            found[f"records of {view.name}"] = found.get(f"records of {view.name}", 0) + count
        return found

    def held(self) -> Iterator[tuple[ViewPlan, Path, int]]:
        """Yield each file of a view that is keyed by the entity, and how many of its records it holds."""
        for view in self.who.plan.views:
            if ways := self.who.of_view(view):
                for each in sorted((self.path / view.name).glob("*.parquet")):
                    require_key(each, view)
                    yield view, each, stored_rows(view, tuple(ways)).count(each)

    def erase(self) -> None:
        """Remove the records and rewrite the digests."""
        complete(self.path)
        manifest = read_manifest(self.path)
        changed = {}
        for view, each, count in self.held():
            if count:
                write_without(each, stored_rows(view, tuple(self.who.of_view(view))).of)
                sync(aside(each))
                changed[str(each.relative_to(self.path))] = digest(aside(each))
        if changed:
            replace_manifest(self.path / DECIDED, manifest | {"files": manifest["files"] | changed})
            complete(self.path)

    def remains(self) -> list[str]:
        """Return nothing: a record is there or not."""
        return []


def complete(folder: Path) -> None:
    """Complete an erasure that was decided; sweep away one that was not."""
    decided = folder / DECIDED
    if not decided.exists():
        for each in leftovers(folder):
            each.unlink()
        return
    aside(decided).unlink(missing_ok=True)
    for name in read_manifest(folder, DECIDED)["files"]:
        if aside(folder / name).exists():
            swap(folder / name)
    decided.replace(folder / MANIFEST)
    sync(folder)


def stored_rows(view: ViewPlan, ways: tuple[Any, ...]) -> Rows:
    """Return which records are the entity's."""
    named = {name for way in ways for name in way}
    return Rows(tuple(each for each in view.keys if each.name in named), ways)


def require_key(path: Path, view: ViewPlan) -> None:
    """Refuse a file of other keys."""
    schema = pq.read_schema(path)
    for each in view.keys:
        if each.name not in schema.names:
            message = (
                f"file `{path}` has no key `{each.name}` of view `{view.name}`; give the definitions it was made from"
            )
            raise InputError(message)
