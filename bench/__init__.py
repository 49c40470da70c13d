"""What Headwater claims of its speed, measured: each figure beside a floor or a peer in the same run."""
