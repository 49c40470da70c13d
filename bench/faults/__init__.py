"""How well the stream's detectors find labelled faults: `python -m bench.faults`."""
