"""The commands of `python -m edge`: a file each, and a line in `edge/__main__.py`."""
