"""A shop's invoices (online_retail): string keys, null customers, cancellations as negative quantities."""

from unskew.pipelines import (
    Entity,
    EventSource,
    FeatureSet,
    FeatureView,
    Float,
    Int32,
    Int64,
    String,
    Timestamp,
    col,
    count,
    feature,
    log1p,
    ratio,
)

invoices = EventSource(
    "invoices",
    schema={
        "row_id": Int64,
        "InvoiceNo": String,
        "StockCode": String,
        "Quantity": Int32(-100_000, 100_000),
        "InvoiceDate": Timestamp,
        "UnitPrice": Float(-20_000, 50_000, quantum=0.001),
        "CustomerID": Int32,
        "Country": String,
    },
    event_time="InvoiceDate",
    event_id="row_id",
    projections={"cancelled": col("Quantity") < 0},
)
WINDOWS = ("1d", "7d", "30d")
bought = col("Quantity") > 0

customer_orders = FeatureView(
    "customer_orders",
    Entity("customer", "CustomerID"),
    invoices,
    {
        "lines": count().over(*WINDOWS),
        "units": col("Quantity").sum().over(*WINDOWS),
        "cancelled_units": col("Quantity").sum().where(col("cancelled")).over("30d"),
        "cancelled_share": ratio(col("cancelled"), bought).over("30d"),
        "price_mean": col("UnitPrice").mean().where(bought).over("30d"),
        "price_max": col("UnitPrice").max().over("7d", "30d"),
        "articles": col("StockCode").count_distinct().over("1d", "30d"),
        "last_article": col("StockCode").last().over("30d"),
        "first_article": col("StockCode").first().over("7d"),
        "last_articles": col("StockCode").last_k(3).over("30d"),
        "since_first": col("row_id").time_since_first().over("30d"),
    },
    owner="shop",
)
article_sales = FeatureView(
    "article_sales",
    Entity("article_in_country", ("StockCode", "Country")),
    invoices,
    {
        "lines": count().over("1h", *WINDOWS),
        "units": col("Quantity").sum().where(bought).over(*WINDOWS),
        "customers": col("CustomerID").count_distinct().over("7d"),
        "price_last": col("UnitPrice").last().over("30d"),
    },
    owner="shop",
)
retail = FeatureSet(
    "retail",
    views=[customer_orders, article_sales],
    derived={"log_units": log1p(feature("customer_orders.units_7d").clip(0, 1_000_000))},
)
