"""Rows in Arrow, the rest of a question in the address.

A small body may claim, compress or repeat more than memory holds: what it comes to is summed before it is decoded.
"""

from __future__ import annotations

import struct
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pyarrow as pa

from unskew.online.server.question import too_many_rows
from unskew.online.server.refusal import Refusal
from unskew.pipelines.errors import nearest

ADDRESS = ("set", "features", "at", "at_column")
CELL = 8  # bytes that a value counts at least: a null takes none in Arrow
# fields of the flatbuffers in https://github.com/apache/arrow/blob/main/format/Message.fbs
VERSION, HEADER, DICTIONARY_DATA, BUFFERS, COMPRESSION = 0, 2, 1, 2, 3
V5 = 4  # since Arrow 1.0; the version before has another form of compression, too
TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
PLAIN = (*TEXTS, pa.types.is_primitive, pa.types.is_decimal, pa.types.is_null)


def read_arrow(body: bytes, query: bytes, max_rows: int, max_bytes: int) -> dict[str, Any]:
    """Return what a JSON body would hold: rows of an Arrow IPC stream, the rest of the address.

    Raises
    ------
    Refusal
        413 for more rows, or more bytes once decoded; 400 for what is no stream, 422 for what no row can have.
    """
    given = {name: values[-1] for name, values in parse_qs(query.decode("latin-1")).items()}
    for name in given:
        if name not in ADDRESS:
            message = f"parameter `{name}` is unknown; {nearest(name, ADDRESS)}"
            raise Refusal(422, "unknown_field", message)
    table = read_table(body, max_rows, max_bytes)
    found: dict[str, Any] = {name: given[name] for name in ("set", "at") if name in given}
    if "features" in given:
        found["features"] = given["features"].split(",")
    if "at_column" in given:
        column = given["at_column"]
        found["at"] = read_instants(table, column)
        table = table.drop_columns([column])
    found["rows"] = python_rows(table, max_bytes)
    return found


def read_table(body: bytes, max_rows: int, max_bytes: int) -> pa.Table:
    """Return the rows of a stream, validated."""
    batches: list[pa.RecordBatch] = []
    rows = 0
    try:
        check_bytes(decoded_bytes(body), max_bytes)
        with pa.ipc.open_stream(body) as reader:
            check_columns(reader.schema)
            for batch in reader:
                rows += batch.num_rows
                if rows > max_rows:
                    raise too_many_rows(rows, max_rows)
                check_bytes(rows * batch.num_columns * CELL, max_bytes)
                batch.validate(full=True)
                batches.append(batch)
            return pa.Table.from_batches(batches, reader.schema)
    except (pa.ArrowException, ValueError, OSError, struct.error) as error:
        message = f"the body is no Arrow IPC stream: {str(error).splitlines()[0]}"
        raise Refusal(400, "not_arrow", message) from None


def check_bytes(given: int, most: int) -> None:
    """Refuse rows that are too large once decoded."""
    if given > most:
        message = f"rows of `{given}` bytes once decoded pass the {most} that are taken; send fewer rows at a time"
        raise Refusal(413, "too_large", message)


def check_columns(schema: pa.Schema) -> None:
    """Refuse columns of one name, and those that hold anything but plain values."""
    for name, kind in zip(schema.names, schema.types, strict=True):
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not any(is_kind(plain) for is_kind in PLAIN):
            message = f"column `{name}` is `{kind}`; send numbers, texts, booleans or instants, and leave out what no row needs"
            raise Refusal(422, "invalid_row", message)
        if len(schema.get_all_field_indices(name)) > 1:
            message = f"column `{name}` is there twice; send it once"
            raise Refusal(422, "invalid_row", message)


def decoded_bytes(body: bytes) -> int:
    """Return how many bytes a stream's buffers come to, by what its messages say of them.

    A batch counts all dictionaries before it: it holds them, joined where one continues another.
    """
    total = dictionaries = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        size = message_bytes(message)
        if message.type == "dictionary":
            dictionaries += size
        total += size + (dictionaries if message.type == "record batch" else 0)
    return total


def message_bytes(message: pa.ipc.Message) -> int:
    """Return how many bytes a message's buffers come to; spoilt metadata is an error here or in Arrow."""
    data = memoryview(message.metadata)
    root = follow(data, 0)
    version = field(data, root, VERSION)
    if not version or struct.unpack_from("<h", data, version)[0] < V5:
        text = "the body was written in a form from before Arrow 1.0; write it by a newer library"
        raise Refusal(400, "not_arrow", text)
    if message.type not in ("dictionary", "record batch"):
        return 0
    batch = follow(data, field(data, root, HEADER))
    if message.type == "dictionary":
        batch = follow(data, field(data, batch, DICTIONARY_DATA))
    buffers = field(data, batch, BUFFERS)
    if not buffers:
        return 0
    vector = follow(data, buffers)
    count = struct.unpack_from("<I", data, vector)[0]
    found: list[list[int]] = np.frombuffer(data, "<i8", 2 * count, vector + 4).reshape(-1, 2).tolist()
    if not field(data, batch, COMPRESSION):
        return sum(max(length, 0) for _, length in found)
    return sum(uncompressed(message.body, offset, length) for offset, length in found if length)


def uncompressed(body: pa.Buffer, offset: int, length: int) -> int:
    """Return how large a compressed buffer says that it is; -1 says that it is not compressed."""
    size: int = struct.unpack_from("<q", body, offset)[0]
    return size if size >= 0 else max(length, 0)


def follow(data: memoryview, place: int) -> int:
    """Return where a flatbuffer's offset points."""
    found: int = struct.unpack_from("<I", data, place)[0]
    return place + found


def field(data: memoryview, table: int, number: int) -> int:
    """Return where a field of a flatbuffer's table is; 0 where it is not there."""
    fields = table - struct.unpack_from("<i", data, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", data, fields)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, fields + slot)[0]
    return table + offset if offset else 0


def read_instants(table: pa.Table, column: str) -> list[int]:
    """Return the column of instants, ms."""
    if column not in table.column_names:
        message = f"column `{column}` of at_column is not among the rows; {nearest(column, table.column_names)}"
        raise Refusal(422, "invalid_at", message)
    found = table[column]
    if not pa.types.is_integer(found.type):
        message = f"column `{column}` of at_column is `{found.type}`; give int64, ms since 1970"
        raise Refusal(422, "invalid_at", message)
    instants: list[int] = found.to_pylist()
    return instants


def python_rows(table: pa.Table, max_bytes: int) -> list[dict[str, Any]]:
    """Return rows as Python objects; a text counts each time: views and dictionaries may repeat it at no cost."""
    columns, size, names = [], 0, table.column_names
    for name, column in zip(names, table.columns, strict=True):
        found = []
        for cell in column:
            try:
                value = cell.as_py()
            except (OverflowError, LookupError, ValueError) as error:
                what = f"column `{name}` of type `{column.type}` has a value, or a time zone, that cannot be read"
                message = f"{what}: `{error}`; give instants as int64, ms since 1970"
                raise Refusal(422, "invalid_row", message) from None
            if isinstance(value, str):
                size += len(value)
                check_bytes(size, max_bytes)
            found.append(value)
        columns.append(found)
    return [{name: own[row] for name, own in zip(names, columns, strict=True)} for row in range(table.num_rows)]
