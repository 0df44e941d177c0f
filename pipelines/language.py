"""Entities, sources, views and sets: the definitions that a data engineer writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from unskew.pipelines.errors import DefinitionError, nearest, same_but_for_case
from unskew.pipelines.expr import Expr, Windowed
from unskew.pipelines.timegrid import parse_duration
from unskew.pipelines.types import DataType


def check_name(kind: str, name: str) -> None:
    """Refuse a name that cannot be a column, a topic or a file."""
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or name.startswith("_"):
        message = f"{kind} name `{name}` is no plain identifier; use letters, digits and inner underscores"
        raise DefinitionError(message)


def check_case(names: Sequence[str], where: str) -> None:
    """Refuse columns that differ in case only."""
    alike = same_but_for_case(names)
    if alike is not None:
        message = f"columns `{alike[0]}` and `{alike[1]}` of {where} differ in case only; rename one"
        raise DefinitionError(message)


def names(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one name, several or none as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)


@dataclass(frozen=True, eq=False)
class Entity:
    """What a feature is about.

    Parameters
    ----------
    name
        For example ``"card"``.
    key
        One column, or several for a composite key.
    """

    name: str
    key: str | Sequence[str]

    def __post_init__(self) -> None:
        """Refuse an empty or repeated key."""
        check_name("entity", self.name)
        if not self.keys or len(set(self.keys)) != len(self.keys):
            message = f"entity `{self.name}` has the key `{self.key}`; name one or more different columns"
            raise DefinitionError(message)

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns of the key, in order."""
        return names(self.key)


@dataclass(frozen=True, eq=False)
class EventSource:
    """A log of events (design section 3).

    Parameters
    ----------
    name
        Name of the source.
    schema
        Type of each column.
    event_time
        Column of the event time.
    event_id
        Column or columns of the identity beside the event time; None where there is none.
    arrival
        Column of the arrival instant in files; without one, arrival is the event time.
    allowed_lateness, max_future_skew
        Durations; an event beyond them is late, or quarantined as future.
    deduplicate
        Whether later copies of an identity are dropped.
    amended
        Whether a later copy of an identity amends the event instead (a log of changes): the last by arrival counts,
        in serving from the next upload on.
    deleted
        Of such a log: where it is true the copy deletes the event, ``col("op") == "delete"``.
    projections
        Derived columns, usable like columns by every view.
    known_after
        For a label that sits as a column on the event: how long after it is known.
    label_delay
        For a source of labels: how long after the event they are known.
    aliases
        Other names under which files and streams carry a column, tried in order after its own name where that is
        missing or null; ``"payload.amount"`` reads a struct's field, or a key of a JSON object. So one source
        reads logs of several schemas: batch and stream, or several producers.
    topic, archive
        Where the events are; no part of the fingerprint.
    """

    name: str
    schema: Mapping[str, DataType]
    event_time: str
    event_id: str | Sequence[str] | None = None
    arrival: str | None = None
    allowed_lateness: str = "1d"
    max_future_skew: str = "1min"
    deduplicate: bool = True
    amended: bool = False
    deleted: Expr | None = None
    projections: Mapping[str, Expr] = field(default_factory=dict)
    known_after: Mapping[str, str] = field(default_factory=dict)
    label_delay: str | None = None
    aliases: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    topic: str = ""
    archive: str = ""

    def __post_init__(self) -> None:
        """Refuse roles of columns that the schema does not have, and lateness that loses labels."""
        check_name("source", self.name)
        for each in [*self.schema, *self.projections]:
            check_name("column", each)
        check_case([*self.schema, *self.projections], f"source `{self.name}`")
        for role, column in self.roles():
            if column not in self.schema:
                message = f"{role} column `{column}` of `{self.name}` is unknown; {nearest(column, self.schema)}"
                raise DefinitionError(message)
        for role in ("event_time", "arrival"):
            column = getattr(self, role)
            if column is not None and self.schema[column].kind != "timestamp":
                message = f"{role} column `{column}` of `{self.name}` is `{self.schema[column]}`; declare a Timestamp"
                raise DefinitionError(message)
        for each in self.projections:
            if each in self.schema:
                message = f"projection `{each}` of `{self.name}` has the name of a column; rename it"
                raise DefinitionError(message)
        self.check_delays()
        self.check_aliases()
        self.check_amendments()

    def roles(self) -> list[tuple[str, str]]:
        """Return the columns with a role, for the check of their names."""
        optional = [("arrival", self.arrival)] if self.arrival else []
        ids = [("event_id", each) for each in names(self.event_id)]
        known = [("known_after", each) for each in self.known_after]
        return [("event_time", self.event_time), *optional, *ids, *known, *(("alias", each) for each in self.aliases)]

    def check_aliases(self) -> None:
        """Refuse an alias that is no dotted name, or that could be read for two columns."""
        owner = dict.fromkeys(self.schema, "a column")
        for column, given in self.aliases.items():
            if not isinstance(given, str | list | tuple):
                message = f"aliases of column `{column}` of `{self.name}` are `{given!r}`; give a name, or several"
                raise DefinitionError(message)
            for each in names(given):
                for part in str(each).split("."):
                    check_name("alias", part)
                if each in owner:
                    message = f"alias `{each}` of column `{column}` of `{self.name}` is {owner[each]} already; drop one"
                    raise DefinitionError(message)
                owner[each] = f"an alias of `{column}`"

    def check_amendments(self) -> None:
        """Refuse amendments of events that cannot be told apart, and deletions where nothing is amended."""
        if self.amended and (not self.event_id or not self.deduplicate):
            message = f"source `{self.name}` is amended, but has no identity; declare an event_id and deduplicate"
            raise DefinitionError(message)
        if self.deleted is not None and not isinstance(self.deleted, Expr):
            message = f'`deleted` of `{self.name}` is `{self.deleted!r}`, no condition; write col("op") == "delete"'
            raise DefinitionError(message)
        if self.deleted is not None and not self.amended:
            message = (
                f"`deleted` of `{self.name}` is a condition over the columns of an amended source; set amended=True"
            )
            raise DefinitionError(message)

    def check_delays(self) -> None:
        """Refuse an allowed lateness that would call ordinary labels late."""
        lateness = parse_duration(self.allowed_lateness)
        parse_duration(self.max_future_skew)
        for delay in self.known_after.values():
            parse_duration(delay)
        if self.label_delay and lateness < parse_duration(self.label_delay) + parse_duration("1d"):
            message = (
                f"allowed_lateness `{self.allowed_lateness}` of `{self.name}` is less than "
                f"label_delay `{self.label_delay}` and a day; labels would be late"
            )
            raise DefinitionError(message)


@dataclass(frozen=True, eq=False)
class FeatureView:
    """Features of one entity over one source.

    Parameters
    ----------
    name
        First part of each feature's full name.
    entity, source
        Whose features, from which events.
    features
        Aggregations over windows; ``"tx_count"`` over 1 h becomes ``tx_count_1h``.
    owner
        Whom to ask; no part of the fingerprint.
    feature_start_time
        ISO instant from which on the log is complete; a feature is null while its window reaches before it.
    """

    name: str
    entity: Entity
    source: EventSource
    features: Mapping[str, Windowed]
    owner: str = ""
    feature_start_time: str | None = None

    def __post_init__(self) -> None:
        """Refuse a view without features and aggregations without a window."""
        check_name("view", self.name)
        roles: tuple[tuple[str, object, type], ...] = (
            ("entity", self.entity, Entity), ("source", self.source, EventSource), ("features", self.features, Mapping),
        )  # fmt: skip
        for role, given, kind in roles:
            if not isinstance(given, kind):
                message = f"{role} `{given!r}` of view `{self.name}` is no {kind.__name__}"
                raise DefinitionError(message)
        if not self.features:
            message = f"view `{self.name}` has no features; declare at least one"
            raise DefinitionError(message)
        for each, value in self.features.items():
            check_name("feature", each)
            if not isinstance(value, Windowed):
                message = f'feature `{self.name}.{each}` has no window; end it with .over("1d")'
                raise DefinitionError(message)
        for key in self.entity.keys:
            if key not in self.source.schema:
                message = f"key `{key}` of view `{self.name}` is unknown; {nearest(key, self.source.schema)}"
                raise DefinitionError(message)
            if self.source.schema[key].kind not in ("int", "string"):
                message = f"key `{key}` of view `{self.name}` is `{self.source.schema[key]}`; use Int64 or String"
                raise DefinitionError(message)

    def joined(self, prefix: str, **keys: str) -> JoinedView:
        """Return the view as read under other keys: the same state, features named ``prefix_view.feature``.

        Parameters
        ----------
        prefix
            Before the view's name, such as ``"buyer"``.
        **keys
            For each column of the entity's key the column of the spine or the request that holds it:
            ``account.joined("buyer", account_id="buyer_id")``.
        """
        return JoinedView(self, prefix, keys)


@dataclass(frozen=True, eq=False)
class JoinedView:
    """A view that a set reads under other keys, beside itself or instead; see `FeatureView.joined`."""

    view: FeatureView
    prefix: str
    keys: Mapping[str, str]

    def __post_init__(self) -> None:
        """Refuse keys that are not those of the entity."""
        check_name("prefix", self.prefix)
        for each in self.keys.values():
            check_name("column", each)
        if set(self.keys) != set(self.view.entity.keys):
            message = (
                f"view `{self.view.name}` is joined by `{sorted(self.keys)}`, its keys are `{list(self.view.entity.keys)}`; "
                "name a column for each"
            )
            raise DefinitionError(message)

    @property
    def name(self) -> str:
        """Name of the view as read."""
        return f"{self.prefix}_{self.view.name}"

    @property
    def asked(self) -> tuple[str, ...]:
        """Columns of the spine that hold the keys, in the entity's order."""
        return tuple(self.keys[each] for each in self.view.entity.keys)


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """What a model reads: views, columns of the request, derived features.

    Parameters
    ----------
    name
        Name of the set.
    views
        Views with different names, as they are or joined under other keys.
    request
        Types of the columns that arrive with a request.
    derived
        Expressions over features and request columns, computed in float64.
    """

    name: str
    views: Sequence[FeatureView | JoinedView]
    request: Mapping[str, DataType] = field(default_factory=dict)
    derived: Mapping[str, Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse repeated names and two sources under one name."""
        check_name("set", self.name)
        self.check_kinds()
        if not self.views:
            message = f"set `{self.name}` has no views; give at least one"
            raise DefinitionError(message)
        for each in [*self.request, *self.derived]:
            check_name("request or derived feature", each)
        seen: dict[str, FeatureView | JoinedView] = {}
        for given in self.views:
            if given.name in seen:
                message = (
                    f"view `{given.name}` stands twice in set `{self.name}`; rename one, or join it under a prefix"
                )
                raise DefinitionError(message)
            seen[given.name] = given
        sources: dict[str, EventSource] = {}
        for view in self.states():
            if seen.setdefault(view.name, view) is not view:
                message = f"two views are named `{view.name}` in set `{self.name}`; rename one"
                raise DefinitionError(message)
            if sources.setdefault(view.source.name, view.source) is not view.source:
                message = f"two sources are named `{view.source.name}` in set `{self.name}`; rename one"
                raise DefinitionError(message)
        keys = self.spine_keys()
        check_case([*self.request, *keys], f"set `{self.name}`: keys and request columns")
        for each in set(self.request) & set(keys):
            if self.request[each].kind != keys[each].kind:
                message = (
                    f"request column `{each}` of set `{self.name}` is `{self.request[each]}`, as a key it is "
                    f"`{keys[each]}`; declare the same type or rename it"
                )
                raise DefinitionError(message)
        for each in set(self.request) & set(self.derived):
            message = f"`{each}` is both a request column and a derived feature of `{self.name}`; rename one"
            raise DefinitionError(message)

    def check_kinds(self) -> None:
        """Refuse what are no views and no expressions."""
        if not isinstance(self.views, Sequence) or not all(
            isinstance(each, FeatureView | JoinedView) for each in self.views
        ):
            message = f"views `{self.views!r}` of set `{self.name}` are no list of FeatureView; write views=[...]"
            raise DefinitionError(message)
        for name, each in self.derived.items():
            if not isinstance(each, Expr):
                message = f"derived feature `{name}` of set `{self.name}` is `{each!r}`, no expression; write feature(...) or request(...)"
                raise DefinitionError(message)

    def states(self) -> tuple[FeatureView, ...]:
        """Return the views whose state the set needs, each once."""
        found = [each.view if isinstance(each, JoinedView) else each for each in self.views]
        return tuple(dict.fromkeys(found))

    def spine_keys(self) -> dict[str, DataType]:
        """Return the columns of the spine that hold keys.

        Raises
        ------
        DefinitionError
            If one column would hold keys of two types.
        """
        found: dict[str, DataType] = {}
        for each in self.views:
            view = each.view if isinstance(each, JoinedView) else each
            asked = each.asked if isinstance(each, JoinedView) else view.entity.keys
            for name, key in zip(asked, view.entity.keys, strict=True):
                kind = view.source.schema[key]
                if found.setdefault(name, kind).kind != kind.kind:
                    message = f"column `{name}` of set `{self.name}` is a key of type `{found[name]}` and of type `{kind}`; rename one"
                    raise DefinitionError(message)
        return found
