"""What a reading costs, and where memory goes, as nodes and series become many: `python -m bench.scale`."""
