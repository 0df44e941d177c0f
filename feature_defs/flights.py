"""Departures from New York (nyc_flights13): null aircraft, null delays, a label known when the plane has landed."""

from unskew.pipelines import (
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Int32,
    Int64,
    String,
    Timestamp,
    coalesce,
    col,
    count,
    day_of_week,
    feature,
    hour_of_day,
    if_else,
)

departures = EventSource(
    "departures",
    schema={
        "row_id": Int64,
        "sched_dep_ts": Timestamp,
        "carrier": String,
        "tailnum": String,
        "origin": String,
        "dest": String,
        "dep_delay": Int32,
        "arr_delay": Int32,
        "distance": Int32(0, 20_000),
    },
    event_time="sched_dep_ts",
    event_id="row_id",
    known_after={"dep_delay": "1d", "arr_delay": "1d"},
    projections={"late": if_else(col("arr_delay").is_null(), None, col("arr_delay") > 15)},  # noqa: PLR2004 - minutes
)
morning = hour_of_day(col("sched_dep_ts")) < 12  # noqa: PLR2004 - noon
weekend = day_of_week(col("sched_dep_ts")) >= 5  # noqa: PLR2004 - Saturday

route_load = FeatureView(
    "route_load",
    Entity("route", ("origin", "dest")),
    departures,
    {
        "flights": count().over("1h", "1d", "7d"),
        "morning_flights": count().where(morning).over("7d"),
        "weekend_flights": count().where(weekend & ~morning).over("30d"),
        "carriers": col("carrier").count_distinct().over("7d"),
        "distance_mean": col("distance").mean().over("1d"),
        "last_carriers": col("carrier").last_k(4).over("1d"),
    },
)
carrier_delay = FeatureView(
    "carrier_delay",
    Entity("carrier_at_origin", ("carrier", "origin")),
    departures,
    {
        "late_rate": col("late").mean().over("7d", "30d", delay="1d"),
        "delay_mean": col("dep_delay").mean().over("7d", delay="1d"),
        "delay_max": coalesce(col("dep_delay"), col("arr_delay")).max().over("7d", delay="1d"),
        "delay_min": col("dep_delay").min().over("7d", delay="1d"),
    },
)
aircraft = FeatureView(
    "aircraft",
    Entity("aircraft", "tailnum"),
    departures,
    {"flights": count().over("1d", "30d"), "last_from": col("origin").last().over("7d")},
)
flights = FeatureSet(
    "flights",
    views=[route_load, carrier_delay, aircraft],
    derived={"load": feature("route_load.flights_1h") / feature("route_load.flights_1d")},
)
