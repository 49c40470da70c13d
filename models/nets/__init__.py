"""The nets, of built-in layers alone: whoever has TensorFlow loads them without our code."""
