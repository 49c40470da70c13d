"""Kafka to committed rows beside a bare COPY, Spark's JDBC sink and Telegraf: `python -m bench.stream`."""
