"""Where a job's lines come from and where its streams go: folders, or topics of Kafka."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unskew.pipelines.backends.flink_lines import LINE, MESSAGE
from unskew.pipelines.backends.flink_pieces import listed, long, quoted, text, uri, with_options
from unskew.pipelines.backends.flink_streams import NULL, Stream

PARTITIONS = 1 << 16  # more than a topic has: a sequence is offset * PARTITIONS + partition
# bytes; a message's texts are in several rows, twice as long (in hex); no more than a producer buffers
LARGEST_ROW = 32 << 20
DISCOVERY = "10 s"  # how often the job looks for partitions that were added


@dataclass(frozen=True)
class Folders:
    """JSON lines below one folder or file, a folder below another for each stream.

    Parameters
    ----------
    read, write
        Absolute paths or URIs.
    watch
        Look for new files each second and never end.
    """

    read: str
    write: str
    watch: bool = False
    carried: str = LINE

    @property
    def endless(self) -> bool:
        """Whether the job never ends by itself."""
        return self.watch

    def source_tables(self) -> tuple[str, ...]:
        """Declare the input: one row of bytes for each line."""
        options = {"connector": "filesystem", "path": uri(self.read), "format": "raw"}
        if self.watch:
            options["source.monitor-interval"] = "1 s"
        return (f"CREATE TEMPORARY TABLE lines (\n  _raw BYTES\n) WITH (\n  {with_options(options)}\n)",)

    def sink_table(self, stream: Stream) -> str:
        """Declare a stream's folder."""
        columns = listed([f"{quoted(name)} {kind}" for name, kind in stream.columns])
        # Flink buffers CSV, but hands JSON to the file row by row.
        options = {"connector": "filesystem", "path": f"{uri(self.write)}/{stream.name}"} | CSV
        return f"CREATE TEMPORARY TABLE {quoted(stream.name)} (\n  {columns}\n) WITH (\n  {with_options(options)}\n)"

    def insert(self, stream: Stream) -> str:
        """Return what fills a stream."""
        return f"INSERT INTO {quoted(stream.name)}\n{stream.query}"


@dataclass(frozen=True)
class Topics:
    """Messages of one topic; all streams of a view into one topic, keyed by the entity, so that they stay together.

    Parameters
    ----------
    read
        The source's topic.
    group
        Consumer group under which the job commits what its checkpoints hold.
    starts
        (partition, offset) to begin at; a partition that is not named is read from its begin.
    write
        For each stream its topic.
    numbers
        For each stream the number that its rows begin with.
    connection
        The connector's options, ``properties.bootstrap.servers`` and so on.
    until_now
        End where the partitions end now: for tests and replays of a given log.
    """

    read: str
    group: str
    starts: tuple[tuple[int, int], ...]
    write: Mapping[str, str]
    numbers: Mapping[str, int]
    connection: Mapping[str, str]
    until_now: bool = False
    carried: str = MESSAGE

    @property
    def endless(self) -> bool:
        """Whether the job never ends by itself."""
        return not self.until_now

    def source_tables(self) -> tuple[str, ...]:
        """Declare the messages, and the lines that they are."""
        options = {
            "connector": "kafka",
            "topic": self.read,
            **self.connection,
            "properties.group.id": self.group,
            **self.beginning(),
            "scan.topic-partition-discovery.interval": DISCOVERY,
            "format": "raw",
        }
        if self.until_now:
            options["scan.bounded.mode"] = "latest-offset"
        columns = (
            "_value BYTES",
            "_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL",
            "_partition INT METADATA FROM 'partition' VIRTUAL",
            "_offset BIGINT METADATA FROM 'offset' VIRTUAL",
        )
        table = f"CREATE TEMPORARY TABLE messages (\n  {listed(columns)}\n) WITH (\n  {with_options(options)}\n)"
        lines = (
            "SELECT COALESCE(_value, CAST('' AS BYTES)) AS _raw,\n"
            "  EXTRACT(EPOCH FROM _time) * 1000 + EXTRACT(MILLISECOND FROM _time) AS _arrived,\n"
            f"  _offset * {long(PARTITIONS)} + CAST(_partition AS BIGINT) AS `_seq`\nFROM messages"
        )
        return table, f"CREATE TEMPORARY VIEW lines AS\n{lines}"

    def beginning(self) -> dict[str, str]:
        """Return the options of where to begin."""
        if not self.starts:
            return {"scan.startup.mode": "earliest-offset"}
        offsets = ";".join(f"partition:{partition},offset:{offset}" for partition, offset in self.starts)
        return {"scan.startup.mode": "specific-offsets", "scan.startup.specific-offsets": offsets}

    def sink_table(self, stream: Stream) -> str:
        """Declare a stream's part of its topic."""
        names = ("_key STRING", "_stream INT", *(f"{quoted(name)} {kind}" for name, kind in stream.columns))
        options = {
            "connector": "kafka",
            "topic": self.write[stream.name],
            **self.connection,
            "properties.linger.ms": "50",  # a request to the broker costs both sides more than its rows do
            "properties.max.request.size": str(LARGEST_ROW),
            "properties.compression.type": "lz4",
            "sink.delivery-guarantee": "at-least-once",
            "key.format": "raw",
            "key.fields": "_key",
            "value.fields-include": "EXCEPT_KEY",
            "value.format": "csv",
            "value.csv.null-literal": NULL,
        }
        return (
            f"CREATE TEMPORARY TABLE {quoted(stream.name)} (\n  {listed(names)}\n) WITH (\n  {with_options(options)}\n)"
        )

    def insert(self, stream: Stream) -> str:
        """Return what fills a stream, with the key of its messages and its number."""
        names = [quoted(name) for name, _ in stream.columns]
        keys = [f"CAST({quoted(name)} AS STRING)" for name in stream.entity]
        keys = keys or [f"CAST(MOD(seq, {long(PARTITIONS)}) AS STRING)"]
        key = f" || {text('|')} || ".join(keys)
        items = listed([key, f"{self.numbers[stream.name]}", *names], ", ")
        return f"INSERT INTO {quoted(stream.name)}\nSELECT {items}\nFROM (\n{stream.query}\n)"


CSV = {"format": "csv", "csv.null-literal": NULL}
Ends = Folders | Topics
