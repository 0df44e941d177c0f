"""The language and the plan of unskew."""

from unskew.pipelines.expr import (
    coalesce,
    col,
    correlation,
    count,
    covariance,
    day_of_week,
    feature,
    hour_of_day,
    if_else,
    log1p,
    ratio,
    request,
)
from unskew.pipelines.language import Entity, EventSource, FeatureSet, FeatureView
from unskew.pipelines.planner import plan
from unskew.pipelines.types import Bool, Decimal, Float, Int32, Int64, String, Timestamp

__all__ = [
    "Bool", "Decimal", "Entity", "EventSource", "FeatureSet", "FeatureView", "Float", "Int32", "Int64", "String",
    "Timestamp", "coalesce", "col", "correlation", "count", "covariance", "day_of_week", "feature", "hour_of_day", "if_else", "log1p", "plan",
    "ratio", "request",
]  # fmt: skip
