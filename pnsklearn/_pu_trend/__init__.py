"""PUTrendClassifier: positives and unlabeled rows, through predictive trends."""
