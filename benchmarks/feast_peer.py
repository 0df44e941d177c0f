"""Feast's side of `bench_feast`, run by a Python that has Feast and nothing of ours.

``feast_peer.py FOLDER REDIS`` makes a Feast repository of the Parquet files in FOLDER, writes their features into Redis, reads
them with Feast's SDK, and prints the figures as JSON.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Array, Float64, Int64
from timing import figures, seconds_of

TIME = "event_timestamp"
READS = {1: 2_000, 100: 200}  # calls by the rows of one
SETTINGS = """\
project: peer
provider: local
registry: {folder}/registry.db
online_store:
  type: redis
  connection_string: "{redis}"
offline_store:
  type: file
entity_key_serialization_version: 3
"""


def field(name: str, kind: str) -> Field:
    """Return a feature by its type in pandas."""
    types: dict[str, Any] = {"int64": Int64, "float64": Float64}
    return Field(name=name, dtype=types.get(kind, Array(Float64)))


def repository(folder: Path, redis: str) -> tuple[FeatureStore, list[str]]:
    """Return the store with all features written, and their names."""
    (folder / "feature_store.yaml").write_text(SETTINGS.format(folder=folder, redis=redis), encoding="utf-8")
    store, names = FeatureStore(repo_path=str(folder)), []
    for path in sorted(folder.glob("*.parquet")):
        frame: pd.DataFrame = pq.read_table(path).to_pandas()
        key, *features = [each for each in frame.columns if each != TIME]
        entity = Entity(name=key.lower(), join_keys=[key], value_type=ValueType.INT64)
        view = FeatureView(
            name=path.stem,
            entities=[entity],
            ttl=timedelta(0),
            schema=[Field(name=key, dtype=Int64), *(field(each, str(frame[each].dtype)) for each in features)],
            source=FileSource(path=str(path), timestamp_field=TIME),
        )
        store.apply([entity, view])
        store.write_to_online_store(view.name, frame)
        names += [f"{view.name}:{each}" for each in features]
    return store, names


def main() -> None:
    """Measure."""
    folder, redis = Path(sys.argv[1]).resolve(), sys.argv[2]
    store, names = repository(folder, redis)
    (folder / "features.json").write_text(json.dumps(names), encoding="utf-8")
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    found = {}
    for size, calls in READS.items():

        def read(number: int, size: int = size) -> object:
            first = number * 7 % (len(asked) - size)
            rows = asked[first : first + size]
            return store.get_online_features(features=names, entity_rows=rows, full_feature_names=True).to_dict()

        found[size] = figures(seconds_of(read, calls))
    sys.stdout.write(json.dumps({"features": len(names), "one": read(0, 1), "reads": found}, default=str) + "\n")


if __name__ == "__main__":
    main()
