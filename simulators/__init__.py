"""Seeded simulators of what an edge agent polls: real servers, each with a ledger of what it really served.

`python -m simulators --help` runs them, makes an edge configuration of the plant's points, and reconciles the ledgers
with what the database holds.
"""
