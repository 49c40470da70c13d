"""Simulated fleets: hundreds of Sparkplug nodes in one process, each with a connection of its own, as agents behave.

What a node sampled is in the fleet's ledger; it forgets a batch only when the bridge says that Kafka has it.
"""
