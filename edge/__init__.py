"""The agent on the device: polls sources, spools their readings, and delivers them until Kafka has them."""
