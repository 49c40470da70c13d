"""What is not normal: an autoencoder's training, its threshold, and whether it is better than what needs none."""
