"""The table of aggregates: how each is built from fields of a state, and how a state becomes a value.

Engines are adapters to it. `states` says how fields merge, `lifts` what one event contributes, `finishes` holds the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unskew.pipelines import finishes, lifts
from unskew.pipelines.finishes import Finisher
from unskew.pipelines.hyperloglog import finish_approx_count_distinct, register_fields
from unskew.pipelines.lifts import extreme_fields, instant_fields, value_fields
from unskew.pipelines.nodes import Node
from unskew.pipelines.states import FeatureType, Lift, StateField

MOST_ENTRIES = 1000  # of a list


@dataclass(frozen=True)
class Aggregate:
    """A row of the table.

    Parameters
    ----------
    formula
        The finish in words: integers first, then one stated sequence of float64 operations.
    inputs
        Number of columns that it takes.
    fields
        State fields from the typed inputs.
    result
        Type of the value from the typed inputs.
    finish
        Values from the windows' states, in the order of `fields`.
    empty
        Value over an empty window: 0 or None (null).
    parameters
        Names: ``k``, a whole number from 1 to `MOST_ENTRIES`; ``q``, above 0 to 1, in millionths.
    sized
        Whether the number of a multiset's values is all that it needs.
    """

    formula: str
    inputs: int
    fields: Callable[[Lift], tuple[StateField, ...]]
    result: Callable[[Sequence[Node]], FeatureType]
    finish: Finisher
    empty: int | None = None
    parameters: tuple[str, ...] = ()
    sized: bool = False


AGGREGATES: dict[str, Aggregate] = {
    "count": Aggregate("n", 0, lifts.count_fields, lifts.integer_result, finishes.finish_count, 0),
    "sum": Aggregate(
        "f64(sum) / f64(units); int64 for integers", 1, lifts.sum_fields, lifts.numeric_result, finishes.finish_value, 0
    ),
    "mean": Aggregate("f64(sum) / f64(n * units)", 1, lifts.mean_fields, lifts.float_result, finishes.finish_mean),
    "ratio": Aggregate(
        "(f64(a) / f64(u)) / (f64(b) / f64(v))", 2, lifts.ratio_fields, lifts.float_result, finishes.finish_ratio
    ),
    "variance": Aggregate(
        "f64(n*sum(xx) - sum(x)^2) / f64(n)^2 / f64(units)^2", 1,
        lifts.variance_fields, lifts.float_result, finishes.finish_variance,
    ),
    "stddev": Aggregate("sqrt(variance)", 1, lifts.variance_fields, lifts.float_result, finishes.finish_stddev),
    "skewness": Aggregate(
        "f64(N3) / (f64(N2) * sqrt(f64(N2)))", 1, lifts.power_fields(3), lifts.float_result, finishes.finish_skewness
    ),
    "kurtosis": Aggregate(
        "f64(N4) / f64(N2)^2 - 3", 1, lifts.power_fields(4), lifts.float_result, finishes.finish_kurtosis
    ),
    "covariance": Aggregate(
        "f64(n*sum(xy) - sum(x)*sum(y)) / f64(n)^2 / (f64(u) * f64(v))", 2,
        lifts.covariance_fields, lifts.float_result, finishes.finish_covariance,
    ),
    "correlation": Aggregate(
        "f64(Nxy) / (sqrt(f64(Nxx)) * sqrt(f64(Nyy)))", 2,
        lifts.correlation_fields, lifts.float_result, finishes.finish_correlation,
    ),
    "slope": Aggregate(
        "f64(n*sum(tx) - sum(t)*sum(x)) / f64(n*sum(tt) - sum(t)^2) * 1000 / f64(units), per second", 1,
        lifts.slope_fields, lifts.float_result, finishes.finish_slope,
    ),
    "min": Aggregate("f64(min) / f64(units)", 1, extreme_fields("min"), lifts.numeric_result, finishes.finish_value),
    "max": Aggregate("f64(max) / f64(units)", 1, extreme_fields("max"), lifts.numeric_result, finishes.finish_value),
    "first": Aggregate(
        "value of the smallest (ts, id)", 1, value_fields("first"), lifts.same_result, finishes.finish_value
    ),
    "last": Aggregate(
        "value of the largest (ts, id)", 1, value_fields("last"), lifts.same_result, finishes.finish_value
    ),
    "time_since_first": Aggregate(
        "t - min(ts), ms", 1, instant_fields("min"), lifts.integer_result, finishes.finish_since
    ),
    "time_since_last": Aggregate(
        "t - max(ts), ms", 1, instant_fields("max"), lifts.integer_result, finishes.finish_since
    ),
    "first_k": Aggregate(
        "values of the k smallest (ts, id), oldest first", 1,
        value_fields("first_k"), lifts.list_result, finishes.finish_value, parameters=("k",),
    ),
    "last_k": Aggregate(
        "values of the k largest (ts, id), newest first", 1,
        value_fields("last_k"), lifts.list_result, finishes.finish_value, parameters=("k",),
    ),
    "top_k": Aggregate(
        "the k largest values, descending", 1,
        extreme_fields("top_k"), lifts.numeric_list_result, finishes.finish_value, parameters=("k",),
    ),
    "bottom_k": Aggregate(
        "the k smallest values, ascending", 1,
        extreme_fields("bottom_k"), lifts.numeric_list_result, finishes.finish_value, parameters=("k",),
    ),
    "count_distinct": Aggregate(
        "number of values with a count > 0", 1,
        lifts.multiset_fields, lifts.integer_result, finishes.finish_count, 0, sized=True,
    ),
    "approx_count_distinct": Aggregate(
        "HyperLogLog of 4,096 registers, Ertl's estimate, rounded", 1,
        register_fields, lifts.integer_result, finish_approx_count_distinct, 0,
    ),
    "histogram": Aggregate(
        "count of each value, by ascending value", 1,
        lifts.multiset_fields, lifts.count_map_result, finishes.finish_histogram,
    ),
    "mode": Aggregate(
        "value of the largest count, of equal ones the smallest", 1,
        lifts.multiset_fields, lifts.same_result, finishes.finish_mode,
    ),
    "top_k_frequent": Aggregate(
        "the k values of the largest counts, equal ones ascending", 1,
        lifts.multiset_fields, lifts.list_result, finishes.finish_top_k_frequent, parameters=("k",),
    ),
    "quantile": Aggregate(
        "value of rank ceil(q * n), to its top 7 bits", 1,
        lifts.bucket_fields, lifts.numeric_result, finishes.finish_quantile, parameters=("q",),
    ),
}  # fmt: skip
