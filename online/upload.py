"""Loads an upload of closed tiles into the store, under a new generation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unskew.online.asked import entity_key
from unskew.online.read import check_fingerprints
from unskew.online.store import NO_GENERATION, Store, ViewContent
from unskew.pipelines.errors import InputError, StoreDown, StoreError
from unskew.pipelines.manifest import check_files, read_manifest
from unskew.pipelines.plan import SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.records import closed_layout
from unskew.pipelines.timegrid import DAY, MINUTE

GRACE = 10 * MINUTE  # ms; a read takes its layout a moment after its records
LONGEST = DAY  # ms that an upload may take


def load_upload(store: Store, plan: SetPlan, folder: str | Path, instant: int, *, grace: int = GRACE) -> int:
    """Write an upload's records and let reads see them, all views at once; then drop what was superseded before.

    Parameters
    ----------
    folder
        As `unskew.backfill` wrote it.
    instant
        The time of the flip, ms, for the recorded history.
    grace
        Generations that no read has seen for longer than this, ms by the recorded flips, are dropped.

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
    for view in plan.views:
        check_view(path, view, manifest)
    ends = {each.name: source_ends(path, each, manifest) for each in plan.sources}
    check_files(path, manifest)
    generation = store.new_generation()
    try:
        for view in plan.views:
            store.put_content("closed", str(generation), view.name, closed_content(view))
            for records in view_records(path / view.name, [each.name for each in view.keys]):
                store.put_closed(generation, view.name, records)
        store.flip(generation, ends, instant)
    except BaseException:
        store.drop_generation(generation)
        raise
    drop_superseded(store, [each.name for each in plan.sources], instant - grace)
    return generation


def drop_superseded(store: Store, sources: Sequence[str], before: int) -> None:
    """Drop the generations that the flips of these sources have superseded before an instant, ms.

    One that reads still see, of these sources or of another set's, stays; one of an upload that was killed goes once a
    later one has been live for a day. What cannot be dropped now (an upload is live all the same) is left to the next time.
    """
    ended: dict[int, int] = {}
    with suppress(StoreDown):
        flips = [store.flips(each) for each in sources]
        for flip, following in chain.from_iterable(map(pairwise, flips)):
            ended[flip.generation] = max(following.instant, ended.get(flip.generation, following.instant))
        flipped = {each.generation: each.instant for each in chain.from_iterable(flips)}
        lasting = max((each for each, instant in flipped.items() if instant < before - LONGEST), default=NO_GENERATION)
        for generation in store.generations():
            killed = generation not in flipped and generation < lasting
            if killed or ended.get(generation, before) < before:
                with suppress(StoreError):
                    store.drop_generation(generation)


def closed_content(view: ViewPlan) -> ViewContent:
    """Return how a view's closed records are laid out, and of which features they are."""
    return ViewContent(closed_layout(view), {each.name: each.fingerprint for each in view.features})


def source_ends(path: Path, source: SourcePlan, manifest: dict[str, Any]) -> tuple[int, int]:
    """Return a source's cut and batch_end, ms, which must follow from one another (design section 8)."""
    found = manifest["sources"].get(source.name)
    cut, end = (found.get("cut"), found.get("batch_end")) if isinstance(found, dict) else (None, None)
    if type(cut) is not int or end != source.batch_end(cut):
        message = f"upload `{path}` has `{found}` for source `{source.name}`, no cut and its batch_end; upload again"
        raise InputError(message)
    return cut, end


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
