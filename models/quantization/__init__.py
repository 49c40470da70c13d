"""From a trained model to its TFLite forms: converted, checked, tried in every runtime, measured."""
