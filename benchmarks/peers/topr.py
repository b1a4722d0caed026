"""What the benchmarks of TOPRPolicy share: the sets, the logs, the peers, and ours.

A method is a function that takes a `Case` and returns a policy, probabilities of shape
(n_test, n_actions). Unless its name says otherwise, a policy is a softmax of linear scores with
intercepts, and its fit minimises ||W||^2 / 2 - C J with C = 1, where J is a sum over the rows.
"""

import subprocess
import tempfile
import warnings
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks._data import load_classes
from pnsklearn import TOPRPolicy
from pnsklearn.datasets import make_logged_bandit

BUNDLED = ("digits", "wine")
SETS = (
    "digits", "letter", "pendigits", "satimage", "segment", "vehicle", "yeast",
    "fashion_mnist_20k",
)  # fmt: skip
LOGGING = ("good", "uniform", "skewed", "bad")
MAX_ROWS = 4_000  # of the training half, and of the test half

# Peers that have no exact optimum worth the name: steps and rate of full-batch Adam.
STEPS, RATE = 500, 0.05
MAX_ITER, TOL = 500, 1e-4  # of L-BFGS
CLIP = 0.2  # of PPO
PENALTIES = (0.1, 0.5, 2.0)  # POEM's, on the standard error
TRANSLATIONS = (0.1, 0.3, 0.5, 0.7, 0.9)  # BanditNet's, of rewards in {0, 1}
PASSES = 10  # of Vowpal Wabbit
FACTORS = 0.1, 1.0, 10.0  # of C, where it is tuned
# The family of the paper's table, in the order of its bounds: of good and of bad actions' weights.
BOUNDS = {
    "TOPR": ((1, 1), (0, 1)),
    "naive REINFORCE": ((1, 1), (1, 1)),
    "positives only": ((1, 1), (0, 0)),
    "full IS": ((0, np.inf), (0, np.inf)),
    "truncated IS": ((0, 1), (0, 1)),
}


@dataclass(frozen=True)
class Case:
    """A log, and contexts to act on. Actions are 0 to n_actions - 1."""

    X: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray
    X_test: np.ndarray
    n_actions: int
    seed: int
    ask: object = None  # function of X and actions that returns new rewards

    @property
    def unit(self):
        """The rewards, scaled to 0 and 1."""
        return (self.reward - self.reward.min()) / max(np.ptp(self.reward), 1e-300)

    def rows(self, rows):
        """Return the case with a part of its log."""
        columns = ("X", "action", "reward", "propensity")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


@lru_cache(maxsize=4)  # one split with all logging policies
def make_case(name, logging, seed, *, noise=0.0, max_rows=MAX_ROWS, data_home=None):
    """Return a log of one half of a set, the labels of the other, and the log's true value.

    Features are standardised by the training half. Rewards are 1 for the right class, else -1, and
    flipped with probability `noise`.
    """
    X, y = load_classes(name, data_home)
    half = min(len(y) // 2, max_rows)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=half, test_size=half, stratify=y, random_state=seed
    )
    scaler = StandardScaler().fit(X_train)
    X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)
    log = make_logged_bandit(X_train, y_train, logging=logging, noise=noise, random_state=seed)
    rng = np.random.default_rng(seed)

    def ask(X, action):
        right = np.where(action == np.tile(y_train, len(action) // len(y_train)), 1.0, -1.0)
        return np.where(rng.random(len(action)) < noise, -right, right)

    columns = log.action, log.reward, log.propensity
    case = Case(X_train, *columns, X_test, int(y.max()) + 1, seed, ask)
    return case, y_test, log.proba[np.arange(half), y_train].mean()


def log_policy(theta, X):
    """Return log-probabilities of shape (n, K); theta has W with shape (K, d) and the biases."""
    rows = theta.reshape(-1, X.shape[1] + 1)
    return log_softmax(X @ rows[:, :-1].T + rows[:, -1], axis=1)


def penalized(objective, X, C):
    """Return a function of theta: ||W||^2 / (2 C n) - J / n and its gradient."""
    d, n = X.shape[1], len(X)

    def loss(theta):
        W = theta.reshape(-1, d + 1)[:, :-1]
        value, gradient = objective(log_policy(theta, X))
        slopes = np.column_stack([W / C - gradient.T @ X, -gradient.sum(axis=0)])
        return (np.sum(W**2) / (2 * C) - value) / n, slopes.ravel() / n

    return loss


def minimised(objective, X, theta, *, C=1.0):
    """Return theta after L-BFGS on the penalised loss, and the loss."""
    options = {"maxiter": MAX_ITER, "gtol": TOL, "ftol": 64 * np.finfo(float).eps, "maxls": 50}
    loss = penalized(objective, X, C)
    result = minimize(loss, theta, method="L-BFGS-B", jac=True, options=options)
    return result.x, result.fun


def adam(objective, X, theta, *, n_steps=STEPS, rate=RATE, C=1.0, on_step=None):
    """Return theta after steps of full-batch Adam on the same loss."""
    loss, mean, square = penalized(objective, X, C), 0.0, 0.0
    for step in range(1, n_steps + 1):
        gradient = loss(theta)[1]
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        move = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        theta = theta - rate * move
        if on_step:
            on_step(step, theta)
    return theta


def logged(action, of_log_p):
    """Return the objective of a function of the logged actions' log-probabilities.

    `of_log_p` returns its value and its slopes, (n,).
    """
    rows = np.arange(len(action))

    def objective(log_P):
        value, slope = of_log_p(log_P[rows, action])
        by_logits = -slope[:, None] * np.exp(log_P)
        by_logits[rows, action] += slope
        return value, by_logits

    return objective


def expected(Q):
    """Return the objective sum_i sum_a pi(a | x_i) Q[i, a]."""

    def objective(log_P):
        PQ = np.exp(log_P) * Q
        of_row = PQ.sum(axis=1)
        return of_row.sum(), PQ - np.exp(log_P) * of_row[:, None]

    return objective


def weighted_rewards(case, gain):
    """Return Q with gain / propensity at the logged actions, for importance sampling."""
    Q = np.zeros((len(gain), case.n_actions))
    Q[np.arange(len(gain)), case.action] = gain / case.propensity
    return Q


def zeros(case):
    """Return the parameters of the uniform policy."""
    return np.zeros(case.n_actions * (case.X.shape[1] + 1))


def imitated(case, C=1.0):
    """Return the parameters of positives only, by scikit-learn."""
    good = case.reward > case.reward.mean() if case.reward.min() >= 0 else case.reward > 0
    X, action = case.X[good], case.action[good]
    W, b = np.zeros((case.n_actions, X.shape[1])), np.full(case.n_actions, -30.0)
    classes = np.unique(action)
    if len(classes) == 1:
        b[classes] = 30.0
    elif len(classes) > 1:
        model = LogisticRegression(C=C, tol=1e-5, max_iter=1000).fit(X, action)
        two = len(classes) == 2
        W[classes] = np.vstack([-model.coef_ / 2, model.coef_ / 2]) if two else model.coef_
        half = model.intercept_ / 2
        b[classes] = np.concatenate([-half, half]) if two else model.intercept_
    else:
        b[:] = 0.0
    return np.column_stack([W, b]).ravel()


def best_start(objective, case, C=1.0):
    """Return theta of the lower loss from two starts: the uniform policy, and positives only."""
    starts = zeros(case), imitated(case, C)
    runs = [minimised(objective, case.X, start, C=C) for start in starts]
    return min(runs, key=lambda run: run[1])[0]


def on_test(case, theta):
    """Return the policy on the test contexts."""
    return np.exp(log_policy(theta, case.X_test))


def deterministic(scores):
    """Return the policy that takes the action of the highest score."""
    return np.eye(scores.shape[1])[scores.argmax(axis=1)]


def positives_only(case, C=1.0):
    """Logistic regression of the actions with positive rewards."""
    return on_test(case, imitated(case, C))


def tapered(case, positive, negative):
    """Return the objective of importance weights clipped to bounds by the sign of the reward.

    F(u) = e^v (1 + u - v) is what grows by the clipped weight e^v, v the log-ratio u within the
    logarithms of the bounds.
    """
    log_mu, good = np.log(case.propensity), case.reward >= 0
    with np.errstate(divide="ignore"):
        low, high = np.log(np.where(good, np.transpose([positive]), np.transpose([negative])))

    def of_log_p(log_p):
        u = log_p - log_mu
        v = np.clip(u, low, np.minimum(high, 500))
        weight = np.exp(v)
        excess = np.where(weight > 0, u - v, 0.0)  # a weight of zero adds nothing
        return (case.reward * weight * (1 + excess)).sum(), case.reward * weight

    return logged(case.action, of_log_p)


def naive(case):
    """Off-policy REINFORCE without weights; it has no optimum, so that Adam's steps end it."""
    return on_test(case, adam(tapered(case, *BOUNDS["naive REINFORCE"]), case.X, zeros(case)))


def importance_sampling(case, unit=False, one_start=False, C=1.0):
    """Maximise the IPS value, of rewards in {-1, 1} or {0, 1}."""
    objective = expected(weighted_rewards(case, case.unit if unit else case.reward))
    theta = minimised(objective, case.X, zeros(case), C=C)[0] if one_start else None
    return on_test(case, best_start(objective, case, C) if theta is None else theta)


def truncated(case, C=1.0):
    """Importance weights cut at 1."""
    return on_test(case, best_start(tapered(case, *BOUNDS["truncated IS"]), case, C))


def ppo(case):
    """PPO's clipped ratio, with the reward as the advantage; its kinks stop L-BFGS: Adam."""
    log_mu = np.log(case.propensity)

    def of_log_p(log_p):
        gain = case.reward * np.exp(np.clip(log_p - log_mu, None, 50))
        clipped = case.reward * np.clip(np.exp(log_p - log_mu), 1 - CLIP, 1 + CLIP)
        return np.minimum(gain, clipped).sum(), np.where(gain <= clipped, gain, 0.0)

    return on_test(case, adam(logged(case.action, of_log_p), case.X, zeros(case)))


def poem(case):
    """IPS value less a multiple of its standard error, chosen by SNIPS on a held-out quarter."""
    n = len(case.action)
    part, held_out = train_test_split(np.arange(n), test_size=0.25, random_state=case.seed)
    part, held_out = case.rows(part), case.rows(held_out)
    start = imitated(part)
    fits = [minimised(_poem(part, penalty), part.X, start)[0] for penalty in PENALTIES]
    values = [snips(theta, held_out) for theta in fits]
    return on_test(case, best_start(_poem(case, PENALTIES[int(np.argmax(values))]), case))


def _poem(case, penalty):
    unit, n = case.unit, len(case.action)

    def of_log_p(log_p):
        z = unit * np.exp(log_p) / case.propensity
        centred = z - z.mean()
        error = np.sqrt(centred @ centred / (n - 1) / n)
        slope = 1 - penalty * centred / ((n - 1) * max(error, 1e-12))
        return n * (z.mean() - penalty * error), slope * z

    return logged(case.action, of_log_p)


def snips(theta, case):
    """Return the self-normalised estimate of a policy's value, of rewards in {0, 1}."""
    P = np.exp(log_policy(theta, case.X))
    weight = P[np.arange(len(P)), case.action] / case.propensity
    return (weight @ case.unit) / weight.sum()


def banditnet(case):
    """IPS value of translated rewards; the translation has the best SNIPS on the training log."""
    fits, start = [], imitated(case)
    for translation in TRANSLATIONS:
        Q = weighted_rewards(case, case.unit - translation)
        fits.append(minimised(expected(Q), case.X, start)[0])
    return on_test(case, max(fits, key=lambda theta: snips(theta, case)))


def direct(case):
    """The action of the highest reward by a ridge regression for each action."""
    return deterministic(_rewards(case, case.X_test))


def direct_logistic(case, C=1.0):
    """The action of the likeliest reward by a logistic regression for each action."""
    return direct_classified(case, LogisticRegression(C=C, max_iter=1000))


def direct_boosted(case):
    """The action of the likeliest reward by gradient boosting for each action."""
    return direct_classified(case, HistGradientBoostingClassifier(random_state=case.seed))


def direct_classified(case, classifier):
    """The action of the likeliest reward by a classifier for each action."""
    scores = np.full((len(case.X_test), case.n_actions), -np.inf)
    for action in np.unique(case.action):
        rows = case.action == action
        good = case.unit[rows] > 0.5
        if good.all() or not good.any():
            scores[:, action] = 30.0 if good[0] else -30.0
        else:
            model = clone(classifier).fit(case.X[rows], good)
            scores[:, action] = model.decision_function(case.X_test)
    return deterministic(scores)


def _rewards(case, X):
    """Return predicted rewards; an action that was never taken is out of the question."""
    scores = np.full((len(X), case.n_actions), -np.inf)
    for action in np.unique(case.action):
        rows = case.action == action
        scores[:, action] = Ridge(alpha=1.0).fit(case.X[rows], case.reward[rows]).predict(X)
    return scores


def doubly_robust(case):
    """Maximise the doubly robust value, with the ridge regressions as its rewards."""
    Q = _rewards(case, case.X)
    Q = np.clip(np.where(np.isfinite(Q), Q, case.reward.min()), *np.quantile(case.reward, (0, 1)))
    rows = np.arange(len(Q))
    Q[rows, case.action] += (case.reward - Q[rows, case.action]) / case.propensity
    return on_test(case, best_start(expected(Q), case))


def vowpal_wabbit(case, kind, C=1.0):
    """Vowpal Wabbit's ``--cb`` in ten passes, deterministic; C multiplies its rate of 0.5."""
    import vowpalwabbit

    label = vowpalwabbit.LabelType.CONTEXTUAL_BANDIT
    settings = f"--cb {case.n_actions} --cb_type {kind} --random_seed {case.seed + 1} --quiet"
    settings += f" -l {0.5 * C}"
    learner = vowpalwabbit.Workspace(settings)
    costs = zip(case.action + 1, -case.unit, case.propensity, case.X, strict=True)
    rows = [learner.parse(f"{a}:{c:.9g}:{p:.9g} | {_text(x)}", label) for a, c, p, x in costs]
    rng = np.random.default_rng(case.seed)
    for _ in range(PASSES):
        for row in rng.permutation(len(rows)):
            learner.learn(rows[row])
    for row in rows:
        learner.finish_example(row)
    actions = np.array([learner.predict(f"| {_text(x)}") for x in case.X_test]) - 1
    learner.finish()
    return np.eye(case.n_actions)[actions]


def _text(x):
    # Names that are numbers are not hashed, and the actions' features then collide.
    return " ".join(f"x{j}:{value:.6g}" for j, value in enumerate(x))


def tuned(case, learn):
    """Return the policy of ``learn(case, C)`` whose best actions are worth most in three folds.

    The value is the self-normalised estimate over all held-out rows.
    """
    fold = np.random.default_rng(case.seed).permutation(len(case.action)) % 3
    weight = np.zeros((len(FACTORS), len(fold)))
    for k in range(3):
        seen, unseen = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        part = replace(case.rows(seen), X_test=case.X[unseen])
        for row, C in zip(weight, FACTORS, strict=True):
            taken = learn(part, C=C).argmax(axis=1) == case.action[unseen]
            row[unseen] = taken / case.propensity[unseen]
    values = weight @ case.reward / np.maximum(weight.sum(axis=1), 1e-12)
    return learn(case, C=FACTORS[int(np.argmax(values))])


OBP = {
    "obp IPWLearner": "ipw", "obp IPWLearner, softmax": "ipw_softmax", "obp NN": "nn",
    "obp NN, faster rate": "nn_faster", "obp NN, linear": "nn_linear",
}  # fmt: skip


def open_bandit_pipeline(case, learner, python, **settings):
    """Return the policy of a learner of obp, and its seconds; see `topr_obp.py`."""
    if python is None:
        raise ModuleNotFoundError("obp is not installed: name an environment by --obp-python")
    script = Path(__file__).with_name("topr_obp.py")
    columns = ("X", "action", "propensity", "X_test", "n_actions", "seed")
    arrays = {name: getattr(case, name) for name in columns}
    with tempfile.TemporaryDirectory() as folder:
        log, answer = (Path(folder) / name for name in ("log.npz", "policy.npz"))
        np.savez(log, reward=case.unit, learner=learner, **arrays, **settings)
        subprocess.run([python, script, log, answer], check=True, capture_output=True)
        with np.load(answer) as found:
            return found["policy"], float(found["seconds"])


def chosen(case, **settings):
    """Return TOPRPolicy's policy; an action that the log lacks has probability 0."""
    policy = TOPRPolicy(random_state=case.seed, **settings)
    policy.fit(case.X, case.action, reward=case.reward, propensity=case.propensity)
    return expand(policy, case)


def topr(case, **settings):
    """Return the policy of the paper's update."""
    return chosen(case, bounds="topr", **{"baseline": 0, **settings})


def refreshed(case, n_rounds=3):
    """Return the policy after rounds in which the rewards of its own actions are asked for."""
    policy = TOPRPolicy(bounds="topr", baseline=0, random_state=case.seed)
    policy.fit(case.X, case.action, reward=case.reward, propensity=case.propensity)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There are no negative rewards")
        return expand(policy.improve(case.X, case.ask, n_rounds), case)


def expand(policy, case):
    """Return a fitted classifier's probabilities on the test contexts, for all actions."""
    P = np.zeros((len(case.X_test), case.n_actions))
    P[:, policy.classes_] = policy.predict_proba(case.X_test)
    return P


def imitation(case):
    """Return the logging policy as logistic regression sees it."""
    return expand(LogisticRegression(max_iter=1000).fit(case.X, case.action), case)


OURS = {
    "chosen": chosen, "chosen, act='sample'": partial(chosen, act="sample"), "TOPR": topr,
    "TOPR, effective_positive=0.5": partial(topr, effective_positive=0.5),
}  # fmt: skip
REFRESH = {"TOPR, 3 refresh rounds": refreshed}
PEERS = {
    "positives only": positives_only, "naive REINFORCE": naive, "full IS": importance_sampling,
    "full IS, from zero only": partial(importance_sampling, one_start=True),
    "full IS, rewards 0/1": partial(importance_sampling, unit=True),
    "truncated IS": truncated, "PPO clip": ppo, "POEM": poem, "BanditNet": banditnet,
    "DR gradient": doubly_robust, "direct, ridge": direct, "direct, logistic": direct_logistic,
    "direct, boosting": direct_boosted,
}  # fmt: skip
TUNED = {"direct, logistic, tuned": partial(tuned, learn=direct_logistic)}
WABBITS = {
    f"Vowpal Wabbit {kind}": partial(vowpal_wabbit, kind=kind) for kind in ("ips", "dr", "mtr")
}
WABBIT_TUNED = {"Vowpal Wabbit mtr, tuned": partial(tuned, learn=WABBITS["Vowpal Wabbit mtr"])}
ONE_ACTION = (  # whose policies take one action
    "direct, ridge", "direct, logistic", "direct, logistic, tuned", "direct, boosting", *WABBITS,
    *WABBIT_TUNED, "obp IPWLearner",
)  # fmt: skip
