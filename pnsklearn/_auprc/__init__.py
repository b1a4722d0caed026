"""AUPRCClassifier: average precision maximisation."""
