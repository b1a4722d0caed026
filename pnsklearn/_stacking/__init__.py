"""AUPRCStackingClassifier: members, out-of-fold log-odds, and the estimator on top."""
