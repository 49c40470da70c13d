"""Where data to train on comes from: one file for each source, all giving a `Dataset`."""
