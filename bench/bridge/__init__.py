"""The bridge beside a client that only acknowledges and beside Telegraf: `python -m bench.bridge`."""
