"""The page of aggregates and functions is written from the code, and the conformance sets exercise each of its rows."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import EVERYTHING, STREAMED
from unskew.pipelines import plan
from unskew.pipelines.aggregates import AGGREGATES
from unskew.pipelines.binding import BINDERS
from unskew.pipelines.derived import ARITY
from unskew.pipelines.expr import Expr
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.nested import OUTER
from unskew.pipelines.reference import ENGINES, examples, reference
from unskew.pipelines.states import GROUPED

PAGE = Path(__file__).parents[2] / "docs" / "functions.md"


def test_the_page_is_what_the_code_says() -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(reference(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == reference()


def test_every_operation_on_rows_has_an_example() -> None:
    assert examples().keys() == BINDERS.keys()


@pytest.mark.parametrize("of", [EVERYTHING, STREAMED], ids=["everything", "streamed"])
def test_the_conformance_sets_use_each_aggregate_field_and_operation(of: FeatureSet) -> None:
    views = plan(of).views
    assert {each.aggregate for view in views for each in view.features} == AGGREGATES.keys()
    assert {each.outer for view in views for each in view.features if each.outer} == OUTER.keys()
    assert {each.kind for view in views for each in view.fields} == ENGINES.keys()
    by_category = {inner.kind for view in views for field in view.fields for inner in field.inner}
    assert by_category >= set(GROUPED) - {"min"}
    used = {each.op for view in of.states() for windowed in view.features.values() for each in operations(windowed)}
    assert used >= {*BINDERS, "cast"}


def test_the_conformance_set_uses_each_operation_on_features() -> None:
    used = {op for each in plan(EVERYTHING).derived for op in derived_operations(each.expression)}
    assert used >= ARITY.keys()


def operations(windowed: Any) -> Iterator[Expr]:
    aggregation = windowed.aggregation
    for each in (*aggregation.inputs, aggregation.condition, aggregation.category):
        if each is not None:
            yield from below(each)


def below(expr: Expr) -> Iterator[Expr]:
    yield expr
    for each in expr.args:
        yield from below(each)


def derived_operations(expression: tuple[Any, ...]) -> Iterator[str]:
    yield expression[0]
    for each in expression[1:]:
        if isinstance(each, tuple):
            yield from derived_operations(each)
