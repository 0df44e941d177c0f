"""Columns under the names that files give them: a column's own name first, then its aliases; a dot reads from a struct.

The stream reads the same names as keys of JSON (`pipelines.backends.flink_lines`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from unskew.pipelines.errors import InputError

Aliases = Mapping[str, tuple[str, ...]]


def type_at(schema: pa.Schema, path: str) -> pa.DataType | None:
    """Return the type at a dotted path; None where there is no such column."""
    first, *rest = path.split(".")
    if first not in schema.names:
        return None
    found = schema.field(first).type
    for each in rest:
        if not pa.types.is_struct(found) or found.get_field_index(each) < 0:
            return None
        found = found.field(each).type
    return found


def carriers(schema: pa.Schema, column: str, aliases: Aliases) -> list[str]:
    """Return the paths under which a file carries a column, in the order in which they are read; of nulls only, one."""
    kinds = {each: type_at(schema, each) for each in (column, *aliases.get(column, ()))}
    there = [each for each, kind in kinds.items() if kind is not None]
    return [each for each in there if not pa.types.is_null(kinds[each])] or there[:1]


def carried_type(schema: pa.Schema, column: str, aliases: Aliases, where: str) -> pa.DataType | None:
    """Return the type of a column's carriers; None where there is none.

    Raises
    ------
    InputError
        If they have different types.
    """
    found = {each: type_at(schema, each) for each in carriers(schema, column, aliases)}
    kinds = list(dict.fromkeys(found.values()))
    if len(kinds) > 1:
        given = ", ".join(f"`{name}` is `{kind}`" for name, kind in found.items())
        message = f"column `{column}` of {where} is carried by columns of different types: {given}; cast one"
        raise InputError(message)
    return kinds[0] if kinds else None


def as_declared(table: pa.Table, columns: Sequence[str], aliases: Aliases) -> pa.Table:
    """Return a table's columns under their declared names: of several carriers the first value that is not null."""
    found = []
    for each in columns:
        values = [at(table, path) for path in carriers(table.schema, each, aliases)]
        found.append(values[0] if len(values) == 1 else pc.coalesce(*values))
    return pa.table(found, list(columns))


def at(table: pa.Table, path: str) -> pa.ChunkedArray:
    """Return the column at a dotted path; a field of a null struct is null."""
    first, *rest = path.split(".")
    column = table[first]
    return pc.struct_field(column, rest) if rest else column
