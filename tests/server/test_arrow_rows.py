"""Arrow bodies that claim, compress or repeat more than they hold are refused before they are decoded."""

import io
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from tests.server.processes import Served
from tests.server.test_features import AT
from tests.server.world import stream
from unskew.online.server.arrow_rows import read_arrow
from unskew.online.server.refusal import Refusal
from unskew.online.server.wire import ARROW

MOST = 2**20
ROWS: list[dict[str, Any]] = [{"who": 1, "shop": "a"}, {"who": 2, "shop": None}]
TEXTS = pa.dictionary(pa.int32(), pa.string())


def batch(*arrays: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(arrays), [f"c{number}" for number in range(len(arrays))])


def named(rows: list[dict[str, Any]] = ROWS) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows)


def of_polars() -> bytes:
    sink = io.BytesIO()
    pl.DataFrame(ROWS).write_ipc_stream(sink)  # texts are views
    return sink.getvalue()


def growing() -> Iterable[pa.RecordBatch]:
    """Yield batches of one row; the dictionary of each continues that of the one before."""
    values = ["x" * 100_000]
    for number in range(30):
        values.append(str(number))
        yield batch(pa.DictionaryArray.from_arrays(pa.array([number], pa.int32()), values))


@pytest.mark.parametrize(
    "body",
    [
        stream([named()]),
        stream([named()], compression="zstd"),
        stream([named()], compression="lz4"),
        stream([pa.RecordBatch.from_pylist(ROWS, pa.schema({"who": pa.int16(), "shop": TEXTS}))]),
        stream([named([each]) for each in [ROWS[0], ROWS[0] | {"who": 2, "shop": ""}]], compression="zstd"),
        of_polars(),
    ],
    ids=["plain", "zstd", "lz4", "dictionary", "two batches", "polars"],
)
def test_every_usual_form_is_read(body: bytes) -> None:
    found = read_arrow(body, b"set=cards", 10, MOST)
    assert found["set"] == "cards"
    assert [{**each, "shop": each["shop"] or None} for each in found["rows"]] == ROWS


def zeros(**options: object) -> bytes:
    return stream([batch(pa.array(["x" * 2**24]))], **options)


def broken(body: bytes) -> bytes:
    """Return a compressed body whose text cannot be decompressed, though it says how large it is."""
    at = body.rindex(b"\x28\xb5\x2f\xfd")  # of zstd
    return body[:at] + bytes(4) + body[at + 4 :]


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: zeros(compression="zstd"), "too_large"),
        (lambda: zeros(compression="lz4"), "too_large"),
        (lambda: broken(zeros(compression="zstd")), "too_large"),
        (lambda: stream([batch(pa.array([0], pa.int32()).dictionary_encode())] * 2 + [], compression="zstd"), None),
        (
            lambda: stream(
                [batch(pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), ["x" * 2**24]))], compression="zstd"
            ),
            "too_large",
        ),
        (
            lambda: stream([batch(pa.DictionaryArray.from_arrays(pa.array([0] * 1_000, pa.int32()), ["x" * 10_000]))]),
            "too_large",
        ),
        (lambda: stream(growing(), emit_dictionary_deltas=True), "too_large"),
        (lambda: stream([batch(*[pa.nulls(1_000)] * 1_000)]), "too_large"),
        (lambda: stream([batch(pa.Array.from_buffers(pa.null(), 2**31 - 1, [None]))]), "too_many_rows"),
        (lambda: stream([batch(pa.ListArray.from_arrays([0, 2**20], pa.nulls(2**20)))]), "invalid_row"),
        (lambda: stream([batch(pa.array([1]))], metadata_version=pa.ipc.MetadataVersion.V4), "not_arrow"),
        (lambda: stream([pa.RecordBatch.from_arrays([pa.array([1])] * 2, ["a", "a"])]), "invalid_row"),
    ],
    ids=[
        "zstd", "lz4", "before it is decoded", "a small one is taken", "a compressed dictionary", "a dictionary's text many times",
        "dictionaries that grow", "nulls", "rows", "a list of nulls", "before Arrow 1.0", "one name twice",
    ],
)  # fmt: skip
def test_what_decodes_to_too_much_is_refused(made: Callable[[], bytes], code: str | None) -> None:
    body = made()
    assert len(body) < MOST or code == "too_large"
    if code is None:
        assert len(read_arrow(body, b"", 5_000, MOST)["rows"]) == 2
        return
    with pytest.raises(Refusal) as refused:
        read_arrow(body, b"", 5_000, MOST)
    assert refused.value.code == code and "\n" not in refused.value.message
    assert refused.value.status == {"too_large": 413, "too_many_rows": 413, "not_arrow": 400}.get(code, 422)


def test_spoilt_streams_are_refused_or_read_and_nothing_else() -> None:
    rng = random.Random(3)  # noqa: S311
    whole = stream([*growing()][:3], compression="zstd", emit_dictionary_deltas=True)
    for _ in range(2_000):
        body = bytearray(whole)
        for _ in range(rng.randrange(1, 4)):
            body[rng.randrange(len(body))] = rng.choice([0, 1, 127, 128, 255])
        try:
            read_arrow(bytes(body), b"", 100, MOST)
        except Refusal as error:
            assert error.status in (400, 413, 422)


def test_a_server_keeps_its_memory(server: Served) -> None:
    body = stream([pa.RecordBatch.from_pylist([{"who": 1, "shop": "x" * 2**29}])], compression="zstd")
    status = Path(f"/proc/{server.process.pid}/status")
    if not status.exists():
        pytest.skip("needs Linux")

    def peak() -> int:
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1_024

    server.ask("POST", f"/v1/features?set=cards&at={AT}", stream([named()]), {"content-type": ARROW})
    before = peak()
    assert len(body) < 2**17
    message = server.refused(413, body, f"/v1/features?set=cards&at={AT}", **{"content-type": ARROW})
    assert message.startswith("rows of `536") and "bytes once decoded pass the 8388608 that are taken" in message
    assert peak() - before < 2**27
