"""Kafka to TimescaleDB, exactly once: a Spark Structured Streaming job."""
