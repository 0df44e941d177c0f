"""The running system: Kafka, a Flink cluster, the archiver, the materialiser."""
