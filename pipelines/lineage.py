"""Lineage: from the columns of sources to features and derived features, as a graph for people."""

from __future__ import annotations

from collections.abc import Iterator

from unskew.pipelines.derived import Derived
from unskew.pipelines.plan import SetPlan

Edge = tuple[str, str, str]  # from, to, label


def edges(plan: SetPlan) -> Iterator[Edge]:
    """Yield an edge for each input of each feature: columns and keys of sources, features, request columns."""
    for view in plan.reads:
        for each in view.features:
            lifts = [lift for field in each.fields for lift in view.fields[field].lifts()]
            read = frozenset().union(*(lift.columns() for lift in lifts)) - {key.name for key in view.keys}
            for key in view.keys:
                yield f"{view.source}.{key.name}", each.name, "key"
            for column in sorted(read):
                yield f"{view.source}.{column}", each.name, each.aggregate
            if not read:
                yield f"{view.source}.{plan.source(view.source).event_time}", each.name, each.aggregate
    for derived in plan.derived:
        for leaf in sorted(leaves(derived.expression)):
            yield leaf, derived.name, ""


def leaves(expression: Derived) -> set[str]:
    """Return what a derived feature reads: features by name, request columns as ``request.name``."""
    if expression[0] == "feature":
        return {str(expression[1])}
    if expression[0] == "request":
        return {f"request.{expression[1]}"}
    return set().union(*(leaves(each) for each in expression[1:] if isinstance(each, tuple)))


def to_mermaid(plan: SetPlan) -> str:
    """Return the graph in Mermaid's notation."""
    ids: dict[str, str] = {}
    lines = ["flowchart LR"]
    for start, end, label in edges(plan):
        left, right = (node(each, ids, lines, '  {}["{}"]') for each in (start, end))
        lines.append(f"  {left} -->{f'|{label}|' if label else ''} {right}")
    return "\n".join(lines)


def to_dot(plan: SetPlan) -> str:
    """Return the graph in Graphviz's notation."""
    ids: dict[str, str] = {}
    lines = [f'digraph "{plan.name}" {{', "  rankdir=LR;", "  node [shape=box];"]
    for start, end, label in edges(plan):
        left, right = (node(each, ids, lines, '  {} [label="{}"];') for each in (start, end))
        lines.append(f'  {left} -> {right} [label="{label}"];')
    return "\n".join([*lines, "}"])


def node(name: str, ids: dict[str, str], lines: list[str], form: str) -> str:
    """Return a node's id; the first mention declares it."""
    if name not in ids:
        ids[name] = f"n{len(ids)}"
        lines.append(form.format(ids[name], name))
    return ids[name]
