"""What an operator does to a node over the broker: commands, and its log; no SSH, no bridge, no database."""
