"""PUTrendClassifier: positives and unlabelled rows, through predictive trends."""
