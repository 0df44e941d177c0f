"""Loads an upload of closed tiles into the store, under a new generation."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.online.read import check_fingerprints, entity_key
from unskew.online.store import SqliteStore, ViewContent
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan, ViewPlan
from unskew.pipelines.records import closed_layout

MANIFEST = "_manifest.json"


def load_upload(store: SqliteStore, plan: SetPlan, folder: str | Path, instant: int) -> int:
    """Write an upload's records and let reads see them, all views at once.

    Parameters
    ----------
    folder
        As `unskew.backfill` wrote it.
    instant
        The time of the flip, ms, for the recorded history.

    Returns
    -------
    int
        The new generation.

    Raises
    ------
    InputError
        If the folder is no upload, or one of other definitions.
    StoreError
        If the store already has a later batch_end.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    generation = store.new_generation()
    for view in plan.views:
        check_view(path, view, manifest)
        features = {each.name: each.fingerprint for each in view.features}
        store.put_content("closed", str(generation), view.name, ViewContent(closed_layout(view), features))
        for records in view_records(path / view.name, [each.name for each in view.keys]):
            store.put_closed(generation, view.name, records)
    ends = {name: (each["cut"], each["batch_end"]) for name, each in manifest["sources"].items()}
    store.flip(generation, ends, instant)
    return generation


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of an upload."""
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"folder `{path}` is no upload: its {MANIFEST} cannot be read ({error}); run `unskew upload`"
        raise InputError(message) from error
    if "sources" not in manifest or "views" not in manifest:
        message = f"folder `{path}` is no upload: its {MANIFEST} names no sources or views; run `unskew upload`"
        raise InputError(message)
    return manifest


def check_view(path: Path, view: ViewPlan, manifest: dict[str, Any]) -> None:
    """Refuse an upload of other definitions; the records' layout follows from the view's."""
    if manifest["views"].get(view.name) == view.fingerprint:
        return
    check_fingerprints(view.features, manifest.get("fingerprints", {}), "uploaded")
    message = f"upload `{path}` holds view `{view.name}` with other features beside; upload the current definitions"
    raise InputError(message)


def view_records(folder: Path, keys: Sequence[str]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield (entity, record) pairs of a view, a row group at a time."""
    for each in sorted(folder.glob("*.parquet")):
        try:
            file = pq.ParquetFile(each)
            for batch in file.iter_batches(columns=[*keys, "_record"]):
                columns = batch.to_pydict()
                cells = zip(*(columns[key] for key in keys), strict=True)
                yield [(entity_key(cell), record) for cell, record in zip(cells, columns["_record"], strict=True)]
        except (pa.ArrowInvalid, OSError, KeyError) as error:
            message = f"file `{each}` of the upload cannot be read: {str(error).splitlines()[0]}"
            raise InputError(message) from error
