"""The ONNX graphs give what the estimators give."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier, PUTrendClassifier, SMaLLClassifier, TOPRPolicy
from pnsklearn.onnx import register_converters

onnxruntime = pytest.importorskip("onnxruntime")
skl2onnx = pytest.importorskip("skl2onnx")

ATOL = 1e-6
ANIMALS = np.array(["ant", "bee", "cat", "dog", "emu"])
NUMBERS = np.array([-2, 1, 5, 8, 13])
PU = {"class_prior": 0.3, "n_snapshots": 3, "random_state": 0}

ESTIMATORS = [
    AUPRCClassifier(alpha=0.1),
    AUPRCClassifier(alpha=0.1, threshold=("recall", 0.9)),
    SMaLLClassifier(1, 2, random_state=0),
    SMaLLClassifier(3, 2, random_state=0),
    SMaLLClassifier(2, 3, binarize="quantile", random_state=0),
    TOPRPolicy(),
    PUTrendClassifier(**PU),
    PUTrendClassifier("linear", final_estimator="same", **PU),
]


@pytest.fixture(autouse=True, scope="module")
def registered():
    register_converters()
    register_converters()  # a second time is harmless


def make_data(seed, n_classes=2):
    """Return X, whose columns differ in size and are off zero, and codes of classes."""
    rng = np.random.RandomState(seed)
    X = rng.standard_normal((500, 6))
    scores = X @ rng.standard_normal((6, n_classes)) + rng.standard_normal((500, n_classes))
    return (X + 3) * 10.0 ** np.arange(-2, 4), scores.argmax(axis=1)


def run(graph, X):
    """Return the outputs of a graph, by name."""
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def to_onnx(model, X, **options):
    """Return the graph of a classifier, or of a pipeline that ends in one."""
    return skl2onnx.to_onnx(model, X[:1], options={id(model): {"zipmap": False} | options})


def check(model, X):
    """Assert that a graph gives the labels and the probabilities of its model."""
    outputs = run(to_onnx(model, X), X)
    assert list(outputs) == ["label", "probabilities"]
    expected = model.predict_proba(X)
    assert np.ptp(expected[:, 1]) > 0.5  # constants would be no test
    assert outputs["probabilities"].dtype == X.dtype
    assert_allclose(outputs["probabilities"], expected, rtol=0, atol=ATOL)
    assert_array_equal(outputs["label"], model.predict(X))


@pytest.mark.parametrize("labels", [ANIMALS, NUMBERS], ids=["strings", "integers"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_pipeline(estimator, dtype, labels, global_random_seed):
    X, code = make_data(global_random_seed)
    X = X.astype(dtype)
    check(make_pipeline(StandardScaler(), clone(estimator)).fit(X, labels[code]), X)
