"""The estimators as ONNX graphs, for skl2onnx.

Scores are computed in double precision whatever the type of X, and the probabilities rounded to
that type last: so they are those of scikit-learn, for float32 too.
"""

import numpy as np
from onnx import TensorProto
from scipy.special import logit
from skl2onnx import get_model_alias
from skl2onnx.algebra.onnx_ops import (
    OnnxAdd,
    OnnxArgMax,
    OnnxCast,
    OnnxConcat,
    OnnxDiv,
    OnnxGather,
    OnnxGreater,
    OnnxIdentity,
    OnnxMatMul,
    OnnxNeg,
    OnnxReduceMaxApi18,
    OnnxReshape,
    OnnxSigmoid,
    OnnxSoftmax,
    OnnxSub,
)
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    guess_proto_type,
)
from skl2onnx.common.utils_classifier import get_label_classes
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import AUPRCClassifier, PUTrendClassifier, SMaLLClassifier, TOPRPolicy
from pnsklearn._pu_trend._networks import Linear

FORESTS = ExtraTreesClassifier, RandomForestClassifier
SECOND_STAGES = *FORESTS, LogisticRegression, SGDClassifier


def convert_auprc(scope, operator, container):
    """Add the nodes of an AUPRCClassifier."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    refuse_module(model)
    log_odds = graph.linear(graph.X, model.coef_, model.intercept_)
    graph.add_binary(log_odds, above=logit(model.threshold_))


def convert_pu_trend(scope, operator, container):
    """Add the nodes of a PUTrendClassifier: those of its second stage."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    if graph.is_raw:
        raise NotImplementedError(
            "The decision_function of a PUTrendClassifier does not convert to ONNX, only its "
            "predict_proba: set raw_scores=False, and do not wrap it in CalibratedClassifierCV."
        )
    final = model.final_estimator_
    if isinstance(final[-1] if isinstance(final, Pipeline) else final, SECOND_STAGES):
        graph.add_second_stage(final)
        return
    network = getattr(final, "model", None)
    if not isinstance(network, Linear):
        names = ", ".join(stage.__name__ for stage in SECOND_STAGES)
        raise NotImplementedError(
            "A PUTrendClassifier converts to ONNX if its final_estimator_ is the default, a linear "
            f"model or one of {names}. Set final_estimator to one of these."
        )
    center = 0.0 if network.scaler.center is None else network.scaler.center
    X = graph.add(OnnxSub, graph.X, np.float64(center))
    X = graph.add(OnnxDiv, X, np.float64(network.scaler.scale))
    (weights,) = network.average
    graph.add_binary(graph.linear(X, weights[:-1].T, weights[-1]))


def convert_small(scope, operator, container):
    """Add the nodes of a SMaLLClassifier: the largest score of its rules decides."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    terms = graph.X
    if hasattr(model, "step_threshold_"):
        values = graph.add(OnnxGather, terms, model.step_feature_.astype(np.int64), axis=1)
        steps = graph.add(OnnxGreater, values, model.step_threshold_.astype(np.float64))
        terms = graph.add(OnnxCast, steps, to=TensorProto.DOUBLE)
    scores = graph.linear(terms, model.coef_, model.intercept_)
    log_odds = graph.add(OnnxReduceMaxApi18, scores, axes=[1], keepdims=1)
    if model.positive_class_ == model.classes_[0]:
        log_odds = graph.add(OnnxNeg, log_odds)
    graph.add_binary(log_odds)


def convert_topr(scope, operator, container):
    """Add the nodes of a TOPRPolicy: a softmax over the actions."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    refuse_module(model)
    logits = graph.linear(graph.X, model.coef_, model.intercept_)
    if len(model.classes_) == 2:
        graph.add_binary(logits)
    else:
        code = graph.add(OnnxArgMax, logits, axis=1, keepdims=0)
        graph.add_outputs(code, logits, OnnxSoftmax, axis=1)


CONVERTERS = {
    AUPRCClassifier: convert_auprc,
    PUTrendClassifier: convert_pu_trend,
    SMaLLClassifier: convert_small,
    TOPRPolicy: convert_topr,
}


class Graph:
    """The nodes of one classifier; `X` is its input in double precision."""

    def __init__(self, scope, operator, container):
        self.scope, self.operator, self.container = scope, operator, container
        self.X = self.add(OnnxCast, operator.inputs[0], to=TensorProto.DOUBLE)
        # Asked for by skl2onnx where scikit-learn calls decision_function, to calibrate say.
        options = container.get_options(operator.raw_operator, {"raw_scores": False})
        self.is_raw = options["raw_scores"]

    def add(self, node, *inputs, **attributes):
        """Return a new node, which is in the graph once an output needs it."""
        return node(*inputs, op_version=self.container.target_opset, **attributes)

    def linear(self, X, coef, intercept):
        """Return X @ coef.T + intercept, of shape (n_samples, n_scores)."""
        product = self.add(OnnxMatMul, X, coef.T.astype(np.float64))
        return self.add(OnnxAdd, product, intercept.astype(np.float64))

    def add_binary(self, log_odds, above=0.0):
        """Add both outputs, from the log-odds of ``classes_[1]`` of shape (n_samples, 1)."""
        both = self.add(OnnxConcat, self.add(OnnxNeg, log_odds), log_odds, axis=1)
        self.add_outputs(self.is_above(log_odds, above), both, OnnxSigmoid)

    def is_above(self, values, bound):
        """Return 1 where values of shape (n_samples, 1) are above a number, else 0."""
        above = self.add(OnnxGreater, values, np.array([bound]))
        code = self.add(OnnxCast, above, to=TensorProto.INT64)
        return self.add(OnnxReshape, code, np.array([-1]))

    def add_outputs(self, code, scores, link, **attributes):
        """Add the labels, from their indices in the classes, and the probabilities or scores."""
        label, out = self.operator.outputs
        classes = get_label_classes(self.scope, self.operator.raw_operator)
        is_text = all(isinstance(label, str) for label in classes)
        classes = np.asarray(classes, dtype=np.str_ if is_text else np.int64)
        self.end(OnnxGather, classes, code, axis=0, to_variable=label)
        values = scores if self.is_raw else self.add(link, scores, **attributes)
        self.end(OnnxCast, values, to=guess_proto_type(out.type), to_variable=out)

    def end(self, node, *inputs, to_variable, **attributes):
        """Add a node, and what it needs, that gives a variable its value."""
        names = [to_variable.full_name]
        self.add(node, *inputs, output_names=names, **attributes).add_to(self.scope, self.container)

    def add_second_stage(self, final):
        """Add both outputs, from a scikit-learn classifier or pipeline for the labels 0, 1."""
        *transformers, last = final.steps if isinstance(final, Pipeline) else [(None, final)]
        given = self.operator.inputs[0]
        # As in scikit-learn, transformers keep float32.
        is_float = isinstance(given.type, FloatTensorType)
        X = self.cast(given, FloatTensorType if is_float else DoubleTensorType)
        for _, step in transformers:
            if isinstance(step, StandardScaler):
                # Not times the inverse: trees must see the digits that they see in scikit-learn.
                self.container.add_options(id(step), {"div": "div"})
            (X,) = self.add_model(step, X, type(X.type))
        # Trees compare in 32 bits, in scikit-learn too.
        kind = FloatTensorType if isinstance(last[1], FORESTS) else DoubleTensorType
        _, probability = self.add_model(last[1], self.cast(X, kind), Int64TensorType, kind)
        probability = self.add(OnnxCast, probability, to=TensorProto.DOUBLE)
        positive = self.add(OnnxGather, probability, np.array([1]), axis=1)
        self.add_outputs(self.is_above(positive, 0.5), probability, OnnxIdentity)

    def add_model(self, model, X, *kinds):
        """Add a model that skl2onnx converts; return its outputs, variables of these types."""
        inner = self.scope.declare_local_operator(get_model_alias(type(model)), model)
        inner.inputs.append(X)
        for kind in kinds:
            inner.outputs.append(self.scope.declare_local_variable("inner", kind()))
        return inner.outputs

    def cast(self, X, kind):
        """Return X as a variable of a type, which `add_model` takes."""
        variable = self.scope.declare_local_variable("cast", kind(X.type.shape))
        self.end(OnnxCast, X, to=guess_proto_type(variable.type), to_variable=variable)
        return variable


def refuse_module(model):
    """Raise NotImplementedError if the model is a torch module."""
    if hasattr(model, "module_"):
        raise NotImplementedError(
            f"Only a linear {type(model).__name__} converts to ONNX, and this one has a torch "
            "module. Export its module_ with torch.onnx.export."
        )
