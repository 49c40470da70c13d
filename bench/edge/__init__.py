"""The agent beside Telegraf and thingsboard-gateway, on one plant, one broker and one machine: `make bench-edge`."""
