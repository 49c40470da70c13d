"""Training: the loop, its checkpoints, and the `train` stage."""
