"""Feature sets that together use every aggregate, type, window shape and row expression."""

from dataclasses import replace

from unskew.pipelines import (
    Bool,
    Decimal,
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int32,
    Int64,
    String,
    Timestamp,
    coalesce,
    col,
    concat,
    correlation,
    cosine,
    count,
    covariance,
    day_of_month,
    day_of_week,
    distance,
    exp,
    feature,
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
    request,
    sqrt,
    year,
)
from unskew.pipelines.expr import Windowed
from unskew.pipelines.timegrid import Accuracy

SCHEMA = {
    "id": Int64,
    "part": String,
    "ts": Timestamp,
    "seen": Timestamp,
    "who": Int64,
    "where": String,
    "i": Int32(-1000, 1000),
    "big": Int64,
    "d": Decimal(12, 2),
    "f": Float(-100.0, 100.0),
    "b": Bool,
    "s": String,
    "at": Timestamp,
}
EVERY_TYPE = ("i", "big", "d", "f", "b", "s", "at")
NUMBERS = ("i", "big", "d", "f", "b")


def every_aggregate(
    *windows: str, hop: str | None = None, delay: str | None = None, accuracy: Accuracy = "exact"
) -> dict[str, Windowed]:
    """Return each aggregate over each type that it takes."""
    found = {"n": count().over(*windows, hop=hop, delay=delay)}
    for name in EVERY_TYPE:
        column = col(name)
        each = {"first": column.first(), "last": column.last(), "last_3": column.last_k(3)}
        each |= {"distinct": column.count_distinct(), "since": column.time_since_last()}
        each |= {"about": column.approx_count_distinct()}
        each |= {"since_first": column.time_since_first(), "first_3": column.first_k(3)}
        each |= {"histogram": column.histogram(), "mode": column.mode(), "frequent_2": column.top_k_frequent(2)}
        each |= {"by": count().by(column), "sum_by": col("i").sum().by(column), "most_by": col("at").max().by(column)}
        each |= {"groups": count().by(column).count(), "busiest": count().per("5min").max()}
        each |= {"least_of": column.min().by(col("s")).max()} if name != "s" else {}
        if name in NUMBERS:
            sums, periods = column.sum().by(col("at")), column.sum().per("5min")
            each |= {"sum_of": sums.sum(), "mean_of": periods.mean(), "variance_of": sums.variance()}
            each |= {"stddev_of": periods.stddev(), "most_of": sums.max(), "min_of": periods.min(), "per": periods}
            each |= {"sum": column.sum(), "mean": column.mean(), "ratio": ratio(column, col("i"))}
            each |= {"variance": column.variance(), "stddev": column.stddev()}
            each |= {"covariance": covariance(column, col("i")), "correlation": correlation(col("i"), column)}
            each |= {"skewness": column.skewness(), "kurtosis": column.kurtosis(), "slope": column.slope()}
            each |= {"median": column.quantile(0.5), "q": column.quantile(0.123456), "top": column.quantile(1)}
        if name != "s":
            each |= {"min": column.min(), "max": column.max(), "top_3": column.top_k(3), "bottom_2": column.bottom_k(2)}
        found |= {
            f"{name}_{key}": value.over(*windows, hop=hop, delay=delay, accuracy=accuracy)
            for key, value in each.items()
        }
    return found


def expressions() -> dict[str, Windowed]:
    """Return sums and filters over each row expression."""
    i, big, d, f, at, s = (col(name) for name in ("i", "big", "d", "f", "at", "s"))
    values = {
        "add": d + i, "sub": i - d, "mul": i * i, "div": d // i, "mod": d % i, "div_negative": i // -7,
        "coalesce": coalesce(i, big, 0), "choice": if_else(col("b"), i, None), "hour": hour_of_day(at),
        "weekday": day_of_week(at), "cast": d.cast(Int64), "fine": i.cast(Decimal(8, 2)), "float": f + f, "neg": -i,
        "abs": (i - d).abs(), "greatest": greatest(i, d, 2), "least": least(f, i), "bucket": d.bucketize(-1, 0.5, 100),
        "minute": minute_of_hour(at), "day": day_of_month(at), "month": month(at), "year": year(at),
        "length": s.length(), "of_text": s.cast(Int64(-100, 100)), "cents": s.cast(Decimal(9, 2)),
        "truth": (i > 0).cast(Int64), "quanta": d.cast(Float(-(2.0**33), 2.0**33, 0.125)), "ms": at.cast(Int64) // 1_000_000_000,
    }  # fmt: skip
    texts = {
        "lower": concat(s, "aÄZ").lower(), "upper": concat(s, "aäz").upper(), "substr": s.substr(2, 2),
        "split": concat(s, ",", s, ",é").split_part(",", 2), "split_first": s.split_part("a", 1), "number": i.cast(String),
        "decimal": d.cast(String), "truth": col("b").cast(String), "choice": if_else(i > 0, s, "ß"), "some": coalesce(s, "none"),
    }  # fmt: skip
    filters = {
        "lt": i < d, "le": i <= 3, "gt": f > 0.5, "ge": d >= i, "eq": col("s") == "😀", "ne": col("s") != "x'\"\\",
        "logic": (i > 0) & ~col("b") | col("s").is_null(), "isin": i.isin(1, 2, -1), "text": i.cast(String) == "-1",
        "or": (col("s") == "a") | (i > 0), "member": col("s").isin("", "é"), "later": at > col("ts"),
        "between": i.between(-1, d), "starts": s.starts_with("a"), "contains": concat(s, "é", s).contains("aé"),
        "bool": i.cast(Bool), "instant": (i * 1_000_000_000).cast(Timestamp) >= at,
    }  # fmt: skip
    found = {f"v_{name}": value.sum().over("1h") for name, value in values.items()}
    found |= {f"t_{name}": value.last().over("1h") for name, value in texts.items()}
    return found | {f"w_{name}": count().where(value).over("1h") for name, value in filters.items()}


def source(name: str, event_id: str | tuple[str, ...] | None = "id", deduplicate: bool = True) -> EventSource:
    """Return a source of that identity."""
    return EventSource(
        name, SCHEMA, event_time="ts", event_id=event_id, arrival="seen", deduplicate=deduplicate,
        projections={"same": col("i") == col("big")},
    )  # fmt: skip


who = Entity("who", "who")
both = Entity("both", ("where", "who"))
single, composed, copies = source("single"), source("composed", ("part", "id")), source("copies", deduplicate=False)
changes = replace(source("changes"), amended=True, deleted=(col("i") > 0) & col("b"))
fine = FeatureView(
    "fine", both, single, {"n": count().over("10s", hop="1ms"), "same": count().where(col("same")).over("2s", hop="1s")}
)
EVERYTHING = FeatureSet(
    "everything",
    [
        FeatureView("aggregates", who, single, every_aggregate("1h", "1d", "12d")),
        fine, fine.joined("other", where="elsewhere", who="whom"),
        FeatureView("delayed", both, composed, every_aggregate("2h", delay="1h")),
        FeatureView("expressions", who, composed, expressions()),
        FeatureView("daily", who, composed, every_aggregate("1d", accuracy="daily"), feature_start_time="1970-01-01"),
        FeatureView("ever", both, single, every_aggregate("lifetime") | {"day": col("i").sum().over("1d")}),
        FeatureView("copied", Entity("place", "where"), copies, {"n": count().over("1h"), "last": col("s").last_k(2).over("1h")}),
        FeatureView(
            "amended", who, changes,
            {
                "n": count().over("1h", "12d"), "sum": col("d").sum().over("1h"), "least": col("i").min().over("1d"),
                "last": col("s").last().over("1h"), "values": col("s").histogram().over("1d"), "top": col("f").top_k(3).over("1h"),
            },
        ),
    ],
    request={"amount": Decimal(12, 2), "now": Timestamp, "name": String, "lat": Float(-91, 91), "lon": Float(-181, 181)},
    derived={
        "share": feature("aggregates.i_sum_1h") / feature("aggregates.n_1d"),
        "log": log1p(request("amount")).clip(-1, 5),
        "some": coalesce(feature("aggregates.d_mean_1h") * 2 - 1, request("amount"), 0),
        "night": if_else(hour_of_day(request("now")) < 6, 1, day_of_week(request("now")) + 10),
        "root": sqrt(feature("aggregates.i_variance_1h")), "power": exp(feature("aggregates.i_mean_1h")),
        "logarithm": log(feature("aggregates.d_mean_1h").abs()),
        "rounded": (feature("aggregates.d_mean_1h") / 3).round() + feature("aggregates.i_sum_1d").sign(),
        "outer": greatest(request("amount"), feature("aggregates.i_min_1d")) - least(request("amount"), 3),
        "bucket": request("amount").bucketize(-1, 0, 0.5), "missing": feature("aggregates.s_last_1h").is_null(),
        "logic": ~(feature("aggregates.n_1h") > 1) | (feature("aggregates.i_max_1h") < 0) & request("amount").isin(1, 2),
        "like": cosine(feature("aggregates.i_last_3_1d"), feature("aggregates.i_first_3_1d")),
        "unlike": cosine(feature("aggregates.d_last_3_1d"), feature("aggregates.i_top_3_1h")),
        **one_hot("letter", feature("aggregates.s_last_1h"), "a", "é"),
        "between": feature("aggregates.n_1h").between(1, 3),
        "far": distance(request("lat"), request("lon"), feature("aggregates.f_last_1d"), feature("aggregates.i_last_1d")),
        "near": distance(feature("aggregates.f_last_1d"), 0, feature("aggregates.f_first_1d"), feature("aggregates.n_1d") / 4096),
        "named": (request("name") != "é") & feature("aggregates.s_mode_1d").isin("a", ""),
    },
)  # fmt: skip
# What Flink computes does not depend on windows, but for the hop: one is enough.
STREAMED = FeatureSet(
    "streamed",
    [
        FeatureView("all", both, single, every_aggregate("1h") | expressions()),
        FeatureView("all_copies", Entity("place", "where"), copies, every_aggregate("1d")),
    ],
)
