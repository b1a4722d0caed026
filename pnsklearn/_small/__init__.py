"""SMaLLClassifier: a few sparse linear rules joined by "or"."""
