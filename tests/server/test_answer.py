"""Questions that one read answers: each reply has its own rows, and nothing of the others."""

import random
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.server.world import PLANS, question
from unskew.online.server.metrics import Metrics, TimedStore
from unskew.online.server.question import Question, part_of
from unskew.online.server.reads import Readers
from unskew.online.server.refusal import Reply
from unskew.online.store_sqlite import SqliteStore


def numbers(table: pa.Table) -> set[bytes]:
    """Return how the numbers of a table stand in memory, but for the simple ones, which anything may hold."""
    found = set()
    for column in table.columns:
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            known = column.drop_null().to_numpy()
            found |= {each.tobytes() for each in known if len(set(each.tobytes())) > 5}
    return found


def test_replies_of_one_read_hold_nothing_of_each_other(store_path: Path) -> None:
    part, rng = part_of(PLANS["everything"], None), random.Random(5)  # noqa: S311
    pairs = [question(part.plan, rng) for _ in range(40)]
    asked = [Question(part, part.form.asked([row]), t, np.array([t]), arrow=True) for row, t in pairs]
    metrics = Metrics(["everything"])
    with SqliteStore(store_path) as store:
        readers = Readers(TimedStore(store, metrics), metrics, None)
        replies, alone = readers.answer(asked), [readers.answer([each])[0] for each in asked]
    tables = []
    for reply, other in zip(replies, alone, strict=True):
        assert isinstance(reply, Reply) and isinstance(other, Reply)
        tables.append(pa.ipc.open_stream(reply.body).read_all())
        assert tables[-1].equals(pa.ipc.open_stream(other.body).read_all(), check_metadata=True)
    everyone = set().union(*map(numbers, tables))
    assert len(everyone) > 20
    for reply, other in zip(replies, alone, strict=True):
        assert isinstance(reply, Reply) and isinstance(other, Reply)
        assert [each for each in everyone if each in reply.body and each not in other.body] == []
