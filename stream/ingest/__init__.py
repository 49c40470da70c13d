"""Kafka records to rows of TimescaleDB, exactly once: a micro-batch's rows and its ledger entry in one transaction."""
