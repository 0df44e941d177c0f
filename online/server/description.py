"""The description of the routes that FastAPI does not serve itself, for `/openapi.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unskew.online.server.wire import ARROW
from unskew.pipelines.plan import ColumnPlan, SetPlan

DESCRIPTION = """The features of entities at an instant, as the definitions say, to the bit.
All errors have the form `{"error": {"code", "message"}}`. With keys configured, send `Authorization: Bearer KEY`."""
PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problems"}}}
EXAMPLES = {"int": 3, "decimal": 12.5, "float": 0.5, "bool": True, "string": "US", "timestamp": 1_740_830_400_000}
REFUSALS = {
    "400": "The body is no JSON, or no Arrow",
    "401": "No known key was given",
    "403": "The key is not for this",
    "404": "Unknown, with the nearest name",
    "413": "Too many bytes or rows",
    "415": "A content type that is not taken",
    "422": "A row, an event or a field that cannot be taken",
    "429": "The key's rate is passed; see Retry-After",
    "503": "The store or the broker does not answer, or too much waits; see Retry-After",
}
ONE_OR_MANY = [{"type": "integer", "description": "ms since 1970"}, {"type": "string", "format": "date-time"}]


def fast_routes(plans: Sequence[SetPlan]) -> dict[str, Any]:
    """Return the paths of `POST /v1/features` and `POST /v1/events/{source}`."""
    return {"/v1/features": {"post": features(plans)}, "/v1/events/{source}": {"post": events(plans)}}


def features(plans: Sequence[SetPlan]) -> dict[str, Any]:
    """Return the description of `POST /v1/features`."""
    in_json = {"schema": question(), "examples": {each.name: {"value": example(each)} for each in plans}}
    in_arrow = {"schema": {"type": "string", "format": "binary"}}
    address = {
        "set": "With rows in Arrow: the set",
        "features": "With rows in Arrow: names of features, with commas",
        "at": "With rows in Arrow: the instant, ms or ISO 8601",
        "at_column": "With rows in Arrow: a column of instants, ms, one for each row",
    }
    found = {"description": "The features", "content": {"application/json": {"schema": reading()}, ARROW: in_arrow}}
    return {
        "summary": "Features of entities at an instant",
        "tags": ["features"],
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": text}
            for name, text in address.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": in_json, ARROW: in_arrow}},
        "responses": {"200": found, **refusals(), "409": refusal("The instant is before the upload's batch_end")},
    }


def events(plans: Sequence[SetPlan]) -> dict[str, Any]:
    """Return the description of `POST /v1/events/{source}`."""
    sources = {each.name: each for plan in plans for each in plan.sources if each.topic}
    examples = {name: {"value": row(each.columns)} for name, each in sources.items()}
    place = {"type": "object", "properties": {"partition": {"type": "integer"}, "offset": {"type": "integer"}}}
    reply = {
        "type": "object",
        "properties": {
            "source": {"type": "string"},
            "topic": {"type": "string"},
            "events": {"type": "array", "items": place},
        },
    }
    body = {
        "application/json": {"schema": {"type": "object"}, "examples": examples},
        "application/x-ndjson": {"schema": {"type": "string", "description": "one JSON object a line"}},
    }
    name = {"type": "string", "enum": sorted(sources)} if sources else {"type": "string"}
    return {
        "summary": "Events onto Kafka, acknowledged by all replicas",
        "tags": ["events"],
        "parameters": [{"name": "source", "in": "path", "required": True, "schema": name}],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "202": {"description": "Where each event is", "content": {"application/json": {"schema": reply}}},
            **refusals(),
        },
    }


def refusals() -> dict[str, Any]:
    """Return the descriptions of the errors."""
    return {status: refusal(text) for status, text in REFUSALS.items()}


def refusal(text: str) -> dict[str, Any]:
    """Return the description of one error."""
    return {"description": text, "content": PROBLEM}


def question() -> dict[str, Any]:
    """Return the schema of a request in JSON."""
    rows = {"type": "object", "description": "keys and request columns by name", "additionalProperties": True}
    return {
        "type": "object",
        "properties": {
            "set": {"type": "string", "description": "may be left out where the server has one"},
            "row": rows,
            "rows": {"type": "array", "items": rows, "description": "instead of `row`"},
            "features": {"type": "array", "items": {"type": "string"}, "description": "default: all"},
            "at": {
                "oneOf": [*ONE_OR_MANY, {"type": "array", "items": {"oneOf": ONE_OR_MANY}}],
                "description": "default: now",
            },
        },
    }


def reading() -> dict[str, Any]:
    """Return the schema of a reply in JSON."""
    whole, text = {"type": "integer"}, {"type": "string"}
    tile = {"type": ["object", "null"], "properties": {"start": whole, "sequence": whole}}
    source = {
        "batch_end": {"type": ["integer", "null"]},
        "cut": {"type": ["integer", "null"]},
        "generation": whole,
        "epoch": text,
    }
    flags = {"type": "array", "items": {"enum": ["ahead", "behind", "stale", "hidden"]}}
    return {
        "type": "object",
        "properties": {
            "set": text,
            "fingerprint": text,
            "at": {"oneOf": [whole, {"type": "array", "items": whole}]},
            "columns": {"type": "array", "items": text, "description": "names of the values of each row"},
            "rows": {"type": "array", "items": {"type": "array", "items": {}}},
            "sources": {"type": "object", "additionalProperties": {"type": "object", "properties": source}},
            "newest": {"type": "array", "items": {"type": "object", "additionalProperties": tile}},
            "flags": {"type": "array", "items": {"type": "object", "additionalProperties": flags}},
        },
    }


def example(plan: SetPlan) -> dict[str, Any]:
    """Return a request for one row."""
    return {"set": plan.name, "row": row([*plan.spine_keys().values(), *plan.request]), "at": "2025-03-01T12:00:00Z"}


def row(columns: Sequence[ColumnPlan]) -> dict[str, Any]:
    """Return example values."""
    return {each.name: EXAMPLES[each.type.kind] for each in columns}
