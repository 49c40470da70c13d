"""The commands of `python -m models`: a file each, and a line in `models/__main__.py`."""
