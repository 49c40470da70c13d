"""Models in Spark: packages as `models` makes them, and their forecasts and scores of readings.

Importing it does not import TensorFlow, which only the process pays for that runs a model.
"""

from stream.serving.catalogue import Catalogue, News
from stream.serving.package import Package, read_package
from stream.serving.served import ServedModel
from stream.serving.transform import forecasts, scores, trial

__all__ = ["Catalogue", "News", "Package", "ServedModel", "forecasts", "read_package", "scores", "trial"]
