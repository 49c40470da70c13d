"""The commands of `python -m fleet`, a file each."""
