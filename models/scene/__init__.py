"""Models of what a camera usually sees: trained on its own samples, judged, converted, packed."""
