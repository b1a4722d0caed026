"""The ONNX graphs give what the estimators give."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, SplineTransformer, StandardScaler

from pnsklearn import (
    AUPRCClassifier,
    AUPRCStackingClassifier,
    PUTrendClassifier,
    SMaLLClassifier,
    TOPRPolicy,
)
from pnsklearn.onnx import register_converters
from tests.estimators import settings

onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

ATOL = 1e-6
ANIMALS = np.array(["ant", "bee", "cat", "dog", "emu"])
NUMBERS = np.array([-2, 1, 5, 8, 13])
# All positives are labeled here, which no share of them among the others fits.
pytestmark = pytest.mark.filterwarnings("ignore::pnsklearn.exceptions.PUWarning")
PU = {"class_prior": 0.3, "n_snapshots": 3, "n_folds": 2, "random_state": 0}
ESTIMATORS = settings("onnx", class_prior=0.3, random_state=0)


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_converters()
    register_converters()  # a second time is harmless


def make_data(seed, n_classes=2):
    """Return X, whose columns differ in size and are off zero, and codes of classes."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((300, 6))
    scores = X @ rng.standard_normal((6, n_classes)) + rng.standard_normal((300, n_classes))
    return (X + 3) * 10.0 ** np.arange(-2, 4), scores.argmax(axis=1)


def to_onnx(model, X, **options):
    """Return the graph of a classifier, or of a pipeline that ends in one."""
    return skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": False} | options})


def run(graph, X):
    """Return the outputs of a graph, by name."""
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def check(model, X):
    """Assert that a graph gives the labels and the probabilities of its model."""
    outputs = run(to_onnx(model, X), X)
    assert list(outputs) == ["label", "probabilities"]
    expected = model.predict_proba(X)
    assert np.ptp(expected[:, 1]) > 0.2  # constants would be no test
    assert outputs["probabilities"].dtype == X.dtype
    assert_allclose(outputs["probabilities"], expected, rtol=0, atol=ATOL)
    assert_array_equal(outputs["label"], model.predict(X))


@pytest.mark.parametrize(
    "fitted_to, given, labels",
    [
        (np.float64, np.float64, ANIMALS),
        (np.float32, np.float32, NUMBERS),
        (np.float64, np.float32, NUMBERS == 1),
    ],
    ids=["float64", "float32", "float64-float32"],
)
@pytest.mark.usefixtures("larger_label")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pipeline(estimator, fitted_to, given, labels, global_random_seed):
    X, code = make_data(global_random_seed)
    model = make_pipeline(StandardScaler(), clone(estimator))
    check(model.fit(X.astype(fitted_to), labels[code]), X.astype(given))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_actions", [3, 5])
def test_several_actions(n_actions, dtype, global_random_seed):
    X, code = make_data(global_random_seed, n_actions)
    model = make_pipeline(StandardScaler(), TOPRPolicy()).fit(X, ANIMALS[code])
    check(model, X.astype(dtype))


@pytest.mark.parametrize("union", ["ant", "bee"])
def test_union_of_rules_is_either_class(union, global_random_seed):
    X, code = make_data(global_random_seed)
    model = SMaLLClassifier(2, 2, positive_class=union, n_init=2, random_state=0)
    check(model.fit(X, ANIMALS[code]), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_extreme_scales(estimator, dtype, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    X = rng.standard_normal((300, 5))
    code = (X.sum(axis=1) + rng.standard_normal(300) > 0).astype(int)
    X = (X + 100) * [1e-30, 1e-6, 1, 1e6, 1e15]
    # Those that do not scale the features themselves need a scaler.
    scales = isinstance(estimator, SMaLLClassifier | PUTrendClassifier)
    model = clone(estimator) if scales else make_pipeline(StandardScaler(), clone(estimator))
    check(model.fit(X, code), X.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_logits_beyond_exp(dtype, global_random_seed):
    for n_actions in (2, 3):
        X, code = make_data(global_random_seed, n_actions)
        X = StandardScaler().fit_transform(X)
        model = TOPRPolicy().fit(X, code)
        far = (1e6 * X).astype(dtype)
        assert np.abs(model.decision_function(far)).max() > 1000
        check(model, far)


@pytest.mark.parametrize(
    "params",
    [
        {"final_estimator": LogisticRegression(max_iter=10_000)},
        {"final_estimator": make_pipeline(MinMaxScaler(), StandardScaler(), LogisticRegression())},
        {"final_estimator": ExtraTreesClassifier(10, min_samples_leaf=5)},
        {"estimator": SGDClassifier(loss="log_loss"), "final_estimator": "same"},
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_second_stages(params, dtype, global_random_seed):
    X, code = make_data(global_random_seed)
    X = StandardScaler().fit_transform(X).astype(dtype)
    check(PUTrendClassifier(**({"estimator": "linear"} | PU | params)).fit(X, code), X)


def test_integers_as_input(global_random_seed):
    X, code = make_data(global_random_seed)
    X = X.astype(np.int64)
    for estimator in settings("onnx", PUTrendClassifier, class_prior=0.3):
        model = clone(estimator).fit(X, code)
        outputs = run(to_onnx(model, X), X)
        assert_allclose(outputs["probabilities"], model.predict_proba(X), rtol=0, atol=ATOL)


# Members of a stack

BOOSTING = HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=5, random_state=0)
MEMBERS = {
    "logistic": make_pipeline(MinMaxScaler(), StandardScaler(), LogisticRegression()),
    "hinge": SGDClassifier(random_state=0),
    "auprc": AUPRCClassifier(alpha=0.1),
    "extra_trees": ExtraTreesClassifier(20, random_state=0),
    "forest": make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)),
    "boosting": BOOSTING,
    "scaled_boosting": make_pipeline(StandardScaler(), BOOSTING),
    "bayes": GaussianNB(),
    "neighbours": KNeighborsClassifier(),
    "network": MLPClassifier((5,), solver="lbfgs", alpha=1.0, max_iter=50, random_state=0),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_a_stack(name, dtype, global_random_seed):
    X, code = make_data(global_random_seed)
    X = StandardScaler().fit_transform(X).astype(dtype)
    stack = AUPRCStackingClassifier([(name, clone(MEMBERS[name]))], cv=2, alpha=np.inf)
    check(stack.set_params(threshold=("budget", 0.2)).fit(X, ANIMALS[code]), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_stack_of_equal_weights(dtype, global_random_seed):
    """Of members on scales of their own, and of two that were fitted before."""
    X, code = make_data(global_random_seed)
    X = StandardScaler().fit_transform(X).astype(dtype)
    names = ["logistic", "extra_trees", "boosting", "bayes"]
    members = [(name, clone(MEMBERS[name])) for name in names]
    settings = {"anchor": "average", "alpha": np.inf, "cv": 2}
    stack = AUPRCStackingClassifier(members, **settings).fit(X[:200], NUMBERS[code[:200]])
    check(stack, X)
    before = [(name, model.fit(X[:100], NUMBERS[code[:100]])) for name, model in members[1:3]]
    settings["cv"] = "prefit"
    check(AUPRCStackingClassifier(before, **settings).fit(X[100:], NUMBERS[code[100:]]), X)


def test_members_for_missing_values(global_random_seed):
    X, code = make_data(global_random_seed)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    rng = np.random.RandomState(global_random_seed)
    X[rng.uniform(size=X.shape) < 0.2] = np.nan
    imputed = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    members = [(name, clone(MEMBERS[name])) for name in ("extra_trees", "boosting")]
    for used in (members[:1], members[1:], [*members, ("imputed", imputed)]):
        check(AUPRCStackingClassifier(used, cv=2, anchor="average", alpha=np.inf).fit(X, code), X)


# Options


def test_options(global_random_seed):
    X, code = make_data(global_random_seed)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    model = AUPRCClassifier(alpha=0.1).fit(X, ANIMALS[code])
    expected = model.predict_proba(X)

    dictionaries = run(to_onnx(model, X, zipmap=True), X)["output_probability"]
    assert_allclose([d["bee"] for d in dictionaries], expected[:, 1], rtol=0, atol=ATOL)
    columns = run(to_onnx(model, X, zipmap="columns"), X)
    assert_allclose(columns["sbee"], expected[:, 1], rtol=0, atol=ATOL)
    assert_array_equal(run(to_onnx(model, X, nocl=True), X)["label"], model.predict(X) == "bee")
    with_classes = run(to_onnx(model, X, output_class_labels=True), X)
    assert_array_equal(with_classes["class_labels"], model.classes_)
    scores = run(to_onnx(model, X, raw_scores=True), X)["probabilities"]
    assert_allclose(scores[:, 1], model.decision_function(X), rtol=1e-5, atol=1e-5)
    names = [("y", None), ("p", None)]
    graph = skl2onnx.to_onnx(model, X, options={"zipmap": False}, final_types=names)
    assert list(run(graph, X)) == ["y", "p"]


def test_inside_other_classifiers(global_random_seed):
    X, code = make_data(global_random_seed, 3)
    X = StandardScaler().fit_transform(X)
    check(OneVsRestClassifier(AUPRCClassifier(alpha=0.1)).fit(X, ANIMALS[code]), X)
    check(CalibratedClassifierCV(AUPRCClassifier(alpha=0.1), cv=2).fit(X, code == 1), X)
    check(CalibratedClassifierCV(TOPRPolicy(), cv=2).fit(X, code), X)


# Errors


def test_decision_function_of_pu_trend(global_random_seed):
    X, code = make_data(global_random_seed)
    model = PUTrendClassifier("linear", **PU).fit(X, code)
    with pytest.raises(NotImplementedError, match="decision_function of a PUTrendClassifier"):
        to_onnx(model, X, raw_scores=True)


@pytest.mark.parametrize(
    "params",
    [
        {"estimator": "mlp", "final_estimator": "same"},
        {"final_estimator": GradientBoostingClassifier(n_estimators=2)},
    ],
)
def test_other_second_stages(params, global_random_seed):
    X, code = make_data(global_random_seed)
    model = PUTrendClassifier(**({"estimator": "linear"} | PU | params)).fit(X, code)
    with pytest.raises(NotImplementedError, match="final_estimator_ is the default, a linear"):
        to_onnx(model, X)


CATEGORIES = HistGradientBoostingClassifier(categorical_features=[0], max_iter=2)
SPLINES = make_pipeline(SplineTransformer(), LogisticRegression())


@pytest.mark.parametrize(
    "member, message",
    [
        (SPLINES, "skl2onnx has no graph for its transformers"),
        (CATEGORIES, "its boosted trees have categorical features"),
        (GradientBoostingClassifier(n_estimators=2), "its GradientBoostingClassifier is none of"),
    ],
)
def test_members_that_do_not_convert(member, message, global_random_seed):
    X, code = make_data(global_random_seed)
    X[:, 0] = np.arange(len(X)) % 3
    members = [("bayes", GaussianNB()), ("other", member)]
    stack = AUPRCStackingClassifier(members, cv=2).fit(X, code)
    with pytest.raises(NotImplementedError, match=f"Member 'other' does not .*: {message}"):
        to_onnx(stack, X)


def test_default_stack_does_not_convert(global_random_seed):
    X, code = make_data(global_random_seed)
    stack = AUPRCStackingClassifier(cv=2, random_state=0).fit(X, code)
    with pytest.raises(NotImplementedError, match="Member 'splines' does not convert to ONNX"):
        to_onnx(stack, X)


def test_modules(global_random_seed):
    torch = pytest.importorskip("torch")
    X, code = make_data(global_random_seed)
    X = StandardScaler().fit_transform(X).astype(np.float32)
    auprc = AUPRCClassifier(alpha=0.1, module=torch.nn.Linear(6, 1), n_epochs=1)
    for model in (auprc, TOPRPolicy(bounds="topr", module=torch.nn.Linear(6, 2), n_epochs=1)):
        with pytest.raises(NotImplementedError, match=r"Only a linear .* torch\.onnx\.export"):
            to_onnx(model.fit(X, code), X)


def test_missing_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'pnsklearn\[onnx\]'"):
        register_converters()
