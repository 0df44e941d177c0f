"""From definitions to the plan: bind, check, share state fields, fingerprint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from unskew.pipelines.aggregates import AGGREGATES
from unskew.pipelines.binding import bind
from unskew.pipelines.canonical import fingerprint
from unskew.pipelines.derived import bind_derived, features_read
from unskew.pipelines.errors import DefinitionError
from unskew.pipelines.expr import Aggregation, Expr, Windowed, col
from unskew.pipelines.language import EventSource, FeatureSet, FeatureView, JoinedView, names
from unskew.pipelines.lifts import add, same_result
from unskew.pipelines.nested import OUTER
from unskew.pipelines.nodes import Node, as_number, computed_columns, literal, masked, value_columns
from unskew.pipelines.plan import ColumnPlan, DerivedPlan, FeaturePlan, SetPlan, SourcePlan, ViewPlan
from unskew.pipelines.states import GROUPED, NEEDS_ORDER, FeatureType, Lift, StateField
from unskew.pipelines.timegrid import LIFETIME, Window, format_duration, parse_duration, parse_instant
from unskew.pipelines.types import SUM_LIMIT, Int64, Timestamp


@dataclass(frozen=True)
class BoundFeature:
    """One aggregation of a view, typed, with all its windows."""

    name: str
    windowed: Windowed
    inputs: tuple[Node, ...]
    fields: tuple[StateField, ...]
    category: Node | None = None

    @property
    def aggregation(self) -> Aggregation:
        """The aggregation as written."""
        return self.windowed.aggregation


def plan(feature_set: FeatureSet) -> SetPlan:
    """Compile a feature set.

    Parameters
    ----------
    feature_set
        The definitions.

    Returns
    -------
    SetPlan
        Frozen and typed; equal definitions give equal plans.

    Raises
    ------
    DefinitionError
        With what is wrong, what was given and what to do.
    """
    bound = [(view, tuple(bind_view(view))) for view in feature_set.states()]
    sources = {view.source.name: view.source for view in feature_set.states()}
    resolved = {
        name: resolve_source(source, [fields for view, fields in bound if view.source is source])
        for name, source in sources.items()
    }
    views = tuple(plan_view(view, features, resolved[view.source.name]) for view, features in bound)
    states = {view.name: planned for (view, _), planned in zip(bound, views, strict=True)}
    reads = tuple(
        read_as(states[each.view.name], each) if isinstance(each, JoinedView) else states[each.name]
        for each in feature_set.views
    )
    derived = plan_derived(feature_set, reads)
    request = tuple(ColumnPlan(name, each) for name, each in feature_set.request.items())
    return SetPlan(feature_set.name, tuple(resolved.values()), views, request, derived, reads)


def read_as(view: ViewPlan, joined: JoinedView) -> ViewPlan:
    """Return a view as a set reads it under other keys."""
    features = tuple(
        replace(
            each,
            name=f"{joined.name}.{each.name.partition('.')[2]}",
            fingerprint=fingerprint([each.fingerprint, list(joined.asked)]),
        )
        for each in view.features
    )
    return replace(view, name=joined.name, features=features, asked=joined.asked, state=view.name)


def bind_view(view: FeatureView) -> Iterable[BoundFeature]:
    """Type the aggregations of a view; an error names the feature."""
    for name, windowed in view.features.items():
        try:
            yield bind_feature(view, name, windowed)
        except DefinitionError as error:
            message = f"feature `{view.name}.{name}`: {error}"
            raise DefinitionError(message) from error


def bind_feature(view: FeatureView, name: str, windowed: Windowed) -> BoundFeature:
    """Type one aggregation and check what its source must offer."""
    source, aggregation = view.source, windowed.aggregation
    inputs = tuple(bind(each, source.schema, source.projections) for each in aggregation.inputs)
    where = bind_filter(source, aggregation)
    clock = Node("column", source.schema[source.event_time], (), source.event_time)
    fields = AGGREGATES[aggregation.name].fields(Lift(inputs, where, clock, aggregation.parameters))
    if not names(source.event_id) and any(each.kind in NEEDS_ORDER for each in fields):
        message = f"aggregate `{aggregation.name}` needs an order, but source `{source.name}` has no event_id"
        raise DefinitionError(message)
    category = bind_category(source, aggregation)
    if adds_up(aggregation):
        check_summed(aggregation, inputs)
    if category is not None:
        fields = (by_category(aggregation.name, category, where, fields),)
    check_delay(source, fields, windowed.windows)
    return BoundFeature(name, windowed, inputs, fields, category)


def check_summed(aggregation: Aggregation, inputs: tuple[Node, ...]) -> None:
    """Refuse to add up instants over categories, or values that are not in the range of summed ones."""
    if any(each.type.kind == "timestamp" for each in inputs):
        message = f"`{aggregation.outer}` over instants says nothing; use min, max or count"
        raise DefinitionError(message)
    for each in inputs:
        add(None, as_number(each))


def adds_up(aggregation: Aggregation) -> bool:
    """Return whether the values of categories are added up."""
    return aggregation.outer not in ("", "count", "min", "max")


def bind_category(source: EventSource, aggregation: Aggregation) -> Node | None:
    """Type the category: an expression, or the first instant of the event's period."""
    if aggregation.period:
        start = col(source.event_time).cast(Int64) // aggregation.period * aggregation.period
        return bind(start.cast(Timestamp), source.schema, source.projections)
    return None if aggregation.category is None else bind(aggregation.category, source.schema, source.projections)


def by_category(name: str, category: Node, where: Node | None, fields: tuple[StateField, ...]) -> StateField:
    """Return the multiset that keeps an aggregate's fields for each category."""
    if any(each.kind not in GROUPED for each in fields):
        message = f"aggregate `{name}` cannot be taken by category; use one of sums, counts, moments, min and max"
        raise DefinitionError(message)
    return StateField("multiset", masked(where, category), 0, fields)


def bind_filter(source: EventSource, aggregation: Aggregation) -> Node | None:
    """Type the filter, which must be a condition."""
    return None if aggregation.condition is None else condition(source, aggregation.condition)


def bind_deleted(source: EventSource) -> Node | None:
    """Type the condition under which a copy deletes its event; an error names the source."""
    try:
        return None if source.deleted is None else condition(source, source.deleted)
    except DefinitionError as error:
        message = f"`deleted` of source `{source.name}`: {error}"
        raise DefinitionError(message) from error


def condition(source: EventSource, expression: Expr) -> Node:
    """Type a condition over a source's columns."""
    where = bind(expression, source.schema, source.projections)
    if where.type.kind != "bool":
        message = f"filter of type `{where.type}` is no condition; compare it with something"
        raise DefinitionError(message)
    return where


def check_delay(source: EventSource, fields: tuple[StateField, ...], windows: tuple[Window, ...]) -> None:
    """Refuse a window that would read labels before they are known."""
    read = frozenset().union(*(lift.columns() for each in fields for lift in each.lifts()))
    needed = [parse_duration(delay) for name, delay in source.known_after.items() if name in read]
    if source.label_delay:
        needed.append(parse_duration(source.label_delay))
    longest = max(needed, default=0)
    for window in windows:
        if window.delay < longest:
            known, given = format_duration(longest), format_duration(window.delay)
            message = f'delay `{given}` reads labels that are known after {known}; use delay="{known}" or more'
            raise DefinitionError(message)


def resolve_source(source: EventSource, views: list[tuple[BoundFeature, ...]]) -> SourcePlan:
    """Give every column that enters arithmetic a range: +-2**40 where none is declared."""
    fields = [each for features in views for feature in features for each in feature.fields]
    deleted = bind_deleted(source)
    lifts = [*(lift for each in fields for lift in each.lifts()), *([] if deleted is None else [deleted])]
    computed = frozenset().union(*(computed_columns(lift) for lift in lifts))
    added = [each for outer in fields for each in (outer, *outer.inner) if each.kind == "add"]
    added += [
        each
        for features in views
        for feature in features
        if adds_up(feature.aggregation)
        for each in feature.fields[0].inner
    ]
    summed = frozenset().union(*(value_columns(each.lift) for each in added))
    free = (*names(source.event_id), source.event_time)
    columns = []
    for name, each in source.schema.items():
        ranged = each.kind == "int" and each.lo is None and name in computed | summed and name not in free
        columns.append(ColumnPlan(name, replace(each, lo=-SUM_LIMIT, hi=SUM_LIMIT) if ranged else each))
    return SourcePlan(
        source.name, tuple(columns), source.event_time, names(source.event_id), source.arrival,
        parse_duration(source.allowed_lateness), parse_duration(source.max_future_skew),
        source.deduplicate and bool(names(source.event_id)), source.topic, source.archive,
        tuple((name, names(each)) for name, each in source.aliases.items()), source.amended, deleted,
    )  # fmt: skip


def plan_view(view: FeatureView, bound: tuple[BoundFeature, ...], source: SourcePlan) -> ViewPlan:
    """Share equal state fields between features and lay out the view."""
    fields: dict[str, StateField] = {}
    for feature in bound:
        for each in feature.fields:
            fields.setdefault(each.fingerprint, each)
    positions = {key: index for index, key in enumerate(fields)}
    keys = tuple(source.column(each) for each in view.entity.keys)
    features = []
    for feature in bound:
        where = tuple(positions[each.fingerprint] for each in feature.fields)
        features += [plan_feature(view, feature, window, where, source) for window in feature.windowed.windows]
    check_features(view.name, features)
    return ViewPlan(view.name, view.entity.name, source.name, keys, tuple(fields.values()), tuple(features))


def plan_feature(
    view: FeatureView, bound: BoundFeature, window: Window, fields: tuple[int, ...], source: SourcePlan
) -> FeaturePlan:
    """Build one feature and its fingerprint over semantics alone."""
    aggregation = bound.aggregation
    units = tuple(each.type.units for each in bound.inputs)
    kind: FeatureType = AGGREGATES[aggregation.name].result(bound.inputs)
    if aggregation.outer:
        inner = bound.inputs if aggregation.name != "count" else [literal(1)]
        kind = OUTER[aggregation.outer].result(inner)
    elif bound.category is not None:
        kind = FeatureType(kind.kind, key=same_result([bound.category]).kind)
    category_units = 0 if bound.category is None else bound.category.type.units
    start = parse_instant(view.feature_start_time)
    if start is not None and window.size == LIFETIME:
        message = f"feature `{view.name}.{bound.name}` over a lifetime reaches before any feature_start_time; drop one"
        raise DefinitionError(message)
    semantics = [
        source.to_json(), list(view.entity.keys), aggregation.name, list(aggregation.parameters),
        [window.size, window.hop, window.delay, window.head_grid], [each.to_json() for each in bound.fields],
        list(units), category_units, start, *([aggregation.outer] if aggregation.outer else []),
    ]  # fmt: skip
    quantum = max((each.type.quantum for each in bound.inputs), default=0.0)
    return FeaturePlan(
        f"{view.name}.{bound.name}_{window.label()}", aggregation.name, aggregation.parameters, window, fields,
        units, kind, quantum, fingerprint(semantics), bound.windowed.owner or view.owner, bound.windowed.description,
        category_units, start, aggregation.outer,
    )  # fmt: skip


def check_features(view: str, features: list[FeaturePlan]) -> None:
    """Refuse repeated names and hops that do not nest."""
    seen: set[str] = set()
    for each in features:
        if each.name in seen:
            message = f"feature `{each.name}` is defined twice; rename one"
            raise DefinitionError(message)
        seen.add(each.name)
    hops = sorted({each.window.hop for each in features})
    for fine, coarse in pairwise(hops):
        if coarse % fine:
            message = f"hops `{format_duration(fine)}` and `{format_duration(coarse)}` of view `{view}` do not nest"
            raise DefinitionError(message + "; use hops that divide each other")


def plan_derived(feature_set: FeatureSet, views: tuple[ViewPlan, ...]) -> tuple[DerivedPlan, ...]:
    """Type the derived features against features and request columns."""
    prints = {each.name: each for view in views for each in view.features}
    found = []
    for name, expr in feature_set.derived.items():
        try:
            expression = bind_derived(expr, prints, feature_set.request)
        except DefinitionError as error:
            message = f"derived feature `{name}`: {error}"
            raise DefinitionError(message) from error
        leaves = {each: prints[each].fingerprint for each in features_read(expression)}
        found.append(DerivedPlan(name, expression, fingerprint([expression, leaves])))
    return tuple(found)
