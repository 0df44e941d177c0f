"""What the server serves: its sets, and in which form it says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, Field

from unskew.pipelines.plan import ColumnPlan, SetPlan
from unskew.pipelines.timegrid import format_duration


class Column(BaseModel):
    """A column that a request must give."""

    name: str
    type: str


class Feature(BaseModel):
    """A feature, by its full name."""

    name: str
    type: str = Field(description="int64, float64, string, bool, timestamp (ms), list<...> or map<..., ...>")
    view: str | None = Field(description="null for a derived feature")
    window: str | None = None
    hop: str | None = None
    delay: str | None = None
    empty: int | None = Field(default=None, description="value of an entity without events")
    owner: str = ""
    description: str = ""
    fingerprint: str


class Set(BaseModel):
    """A feature set."""

    name: str
    fingerprint: str
    keys: list[Column]
    request: list[Column]
    sources: list[str]
    features: list[Feature]


class Sets(BaseModel):
    """All sets that the caller may read."""

    sets: list[Set]


class Health(BaseModel):
    """Whether the process lives."""

    status: str


class Readiness(BaseModel):
    """Whether it should be sent requests; `hidden` names the views that the store has not, set by set."""

    status: str
    sets: dict[str, str] = {}
    hidden: dict[str, list[str]] = {}


class Problem(BaseModel):
    """What is wrong: a word for programs, a line for people."""

    code: str
    message: str


class Problems(BaseModel):
    """The form of all errors."""

    error: Problem


def described(plans: Iterable[SetPlan]) -> Sets:
    """Return sets as they are listed."""
    return Sets(sets=[described_set(each) for each in plans])


def described_set(plan: SetPlan) -> Set:
    """Return a set as it is listed."""
    derived = [
        Feature(name=each.name, type="float64", view=None, fingerprint=each.fingerprint) for each in plan.derived
    ]
    return Set(
        name=plan.name,
        fingerprint=plan.fingerprint,
        keys=[column(each) for each in plan.spine_keys().values()],
        request=[column(each) for each in plan.request],
        sources=[each.name for each in plan.sources],
        features=[*features(plan), *derived],
    )


def column(of: ColumnPlan) -> Column:
    """Return a column as it is listed."""
    return Column(name=of.name, type=str(of.type))


def features(plan: SetPlan) -> list[Feature]:
    """Return the features of a set's views as they are listed."""
    found: list[dict[str, Any]] = [
        {
            "name": each.name,
            "type": str(each.type),
            "view": view.name,
            "window": each.window.label(),
            "hop": format_duration(each.window.hop),
            "delay": format_duration(each.window.delay),
            "empty": each.empty,
            "owner": each.owner,
            "description": each.description,
            "fingerprint": each.fingerprint,
        }
        for view in plan.reads
        for each in view.features
    ]
    return [Feature(**each) for each in found]
