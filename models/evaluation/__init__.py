"""How good a model is on what it was not trained on, against what needs no training."""
