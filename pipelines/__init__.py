"""The language and the plan of unskew."""

from unskew.pipelines.expr import col, feature, request
from unskew.pipelines.functions import (
    coalesce,
    concat,
    correlation,
    cosine,
    count,
    covariance,
    day_of_month,
    day_of_week,
    distance,
    exp,
    greatest,
    hour_of_day,
    if_else,
    least,
    log,
    log1p,
    minute_of_hour,
    month,
    one_hot,
    ratio,
    sqrt,
    year,
)
from unskew.pipelines.language import Entity, EventSource, FeatureSet, FeatureView, JoinedView
from unskew.pipelines.planner import plan
from unskew.pipelines.types import Bool, Decimal, Float, Int32, Int64, String, Timestamp

__all__ = [
    "Bool", "Decimal", "Entity", "EventSource", "FeatureSet", "FeatureView", "Float", "Int32", "Int64", "JoinedView", "String",
    "Timestamp", "coalesce", "col", "concat", "correlation", "cosine", "count", "covariance", "day_of_month", "day_of_week",
    "distance", "exp", "feature", "greatest", "hour_of_day", "if_else", "least", "log", "log1p", "minute_of_hour", "month",
    "one_hot", "plan", "ratio", "request", "sqrt", "year",
]  # fmt: skip
