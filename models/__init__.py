"""Models: trained in TensorFlow, judged against what needs no training, quantized for the device and registered."""
