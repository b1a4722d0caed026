"""Learners of the Open Bandit Pipeline, for `python -m benchmarks topr --obp-python PATH`.

This script is run by that interpreter, whose environment has obp with its dependencies; nothing
else is needed. It is told a file with a log and the file to write the policy to.
"""

import sys
import time

import numpy as np
import torch
from obp.policy import IPWLearner, NNPolicyLearner
from sklearn.linear_model import LogisticRegression

# Beside the defaults: a faster rate; and linear scores, with the penalty of C = 1.
SETTINGS = {
    "nn": {},
    "nn_faster": {"learning_rate_init": 1e-3, "max_iter": 100},
    "nn_linear": {"hidden_layer_size": (), "learning_rate_init": 0.01, "max_iter": 50},
}


def learn(log):
    """Return the probabilities of the actions on the test contexts."""
    X, action, reward, propensity, X_test = (
        log[name] for name in ("X", "action", "reward", "propensity", "X_test")
    )
    learner, n_actions, seed = str(log["learner"]), int(log["n_actions"]), int(log["seed"])
    feedback = {"context": X, "action": action, "reward": reward, "pscore": propensity}
    if learner.startswith("ipw"):
        model = IPWLearner(n_actions, base_classifier=LogisticRegression(max_iter=1000))
        model.fit(**feedback)
        if learner == "ipw":
            return model.predict(X_test)[:, :, 0]
        classifier = model.base_classifier_list[0]  # predict_score needs all actions in the log
        policy = np.zeros((len(X_test), n_actions))
        policy[:, classifier.classes_] = classifier.predict_proba(X_test)
        return policy
    settings = SETTINGS[learner]
    if learner == "nn_linear":
        settings = {**settings, "alpha": 1 / len(X)}
    if "max_iter" in log:
        settings = {**settings, "max_iter": int(log["max_iter"])}
    feedback["reward"] = 2 * reward - 1  # of both signs: better than 0 and 1 in each of these
    model = NNPolicyLearner(
        n_actions, dim_context=X.shape[1], off_policy_objective="ipw", random_state=seed, **settings
    )
    model.fit(**feedback)
    return model.predict_proba(X_test)[:, :, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with np.load(sys.argv[1]) as log:
        start = time.process_time()
        policy = learn(log)
        seconds = time.process_time() - start
    np.savez(sys.argv[2], policy=policy, seconds=seconds)
