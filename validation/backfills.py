"""The backfills of a parity check: over all events, over those known, and over those known had none been in flight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from unskew.backfill.training import backfill
from unskew.pipelines.backends.beam_sql import Flip as KnownFlip
from unskew.pipelines.plan import SetPlan
from unskew.validation.log import SEQUENCE, Log
from unskew.validation.probes import Flip


def backfills(
    plan: SetPlan, logs: Mapping[str, Log], flips: Sequence[Flip], probes: pa.Table
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Return features over all events, over those known at each probe, and over those known had none been in flight."""
    events = {name: each.table for name, each in logs.items()}
    known = [
        KnownFlip(each.cut, log.source.batch_end(each.cut), each.position, name)
        for name, log in logs.items()
        for each in flips
    ]
    ideal = backfill(plan, events, probes)
    as_known = backfill(plan, events, probes, as_of="position", sequence=SEQUENCE, flips=known)
    at_once = {
        name: each.table.set_column(
            each.table.column_names.index(SEQUENCE), SEQUENCE, pa.array(np.zeros(each.table.num_rows, np.int64))
        )
        for name, each in logs.items()
    }
    punctual = backfill(plan, at_once, probes, as_of="position", sequence=SEQUENCE, flips=known)
    return ideal, as_known, punctual
