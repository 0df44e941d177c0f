"""Running Flink: the stream and the online read."""
