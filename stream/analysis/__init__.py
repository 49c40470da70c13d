"""What readings mean: bars, trends and anomalies, worked out in Spark as the readings come.

A result depends on the order of each node's records in Kafka alone, never on how Spark cut them into micro-batches.
"""
