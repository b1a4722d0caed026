"""The estimators as ONNX graphs, for skl2onnx.

Scores are computed in double precision whatever the type of X, and the probabilities rounded to
that type last: so they are those of scikit-learn, for float32 too.
"""

from typing import NamedTuple

import numpy as np
from onnx import TensorProto
from onnx.numpy_helper import from_array
from scipy.special import logit
from skl2onnx import convert_sklearn, get_model_alias
from skl2onnx.algebra.onnx_ops import (
    OnnxAdd,
    OnnxArgMax,
    OnnxCast,
    OnnxConcat,
    OnnxDiv,
    OnnxGather,
    OnnxGreater,
    OnnxIdentity,
    OnnxLog,
    OnnxMatMul,
    OnnxMul,
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
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from pnsklearn import (
    AUPRCClassifier,
    AUPRCStackingClassifier,
    PUTrendClassifier,
    SMaLLClassifier,
    TOPRPolicy,
)
from pnsklearn._pu_trend._networks import Linear
from pnsklearn._typing import Array

FORESTS = ExtraTreesClassifier, RandomForestClassifier
SECOND_STAGES = *FORESTS, LogisticRegression, SGDClassifier
LINEAR = LogisticRegression, SGDClassifier, AUPRCClassifier
# Members of a stack besides these and boosted trees, of which skl2onnx gives exact probabilities.
OTHER_MEMBERS = GaussianNB, KNeighborsClassifier, MLPClassifier


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
    if model.threshold_ != 0.5:
        raise NotImplementedError(
            "A PUTrendClassifier converts to ONNX with threshold='proba' only; cut its "
            f"probabilities at threshold_, {model.threshold_:.3g}."
        )
    final = model.final_estimator_
    if isinstance(final[-1] if isinstance(final, Pipeline) else final, SECOND_STAGES):
        graph.add_second_stage(final)
        return
    network = getattr(final, "model", None)
    if not isinstance(network, Linear):
        raise NotImplementedError(
            "A PUTrendClassifier converts to ONNX if its final_estimator_ is the default, a linear "
            f"model or one of {names_of(SECOND_STAGES)}. Set final_estimator to one of these."
        )
    center = 0.0 if network.scaler.center is None else network.scaler.center
    X = graph.add(OnnxSub, graph.X, np.float64(center))
    X = graph.add(OnnxDiv, X, np.float64(network.scaler.scale))
    (weights,) = network.average
    graph.add_binary(graph.linear(X, weights[:-1].T, weights[-1]))


def convert_small(scope, operator, container):
    """Add the nodes of a SMaLLClassifier: the largest score of its rules decides."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    if hasattr(model, "_terms_"):
        raise NotImplementedError(
            "A SMaLLClassifier converts to ONNX if it was fitted to numbers without gaps. Encode "
            "and impute in a pipeline in front of it, or take pnsklearn.RuleCard."
        )
    terms = graph.X
    if hasattr(model, "step_threshold_"):
        values = graph.add(OnnxGather, terms, model.step_feature_.astype(np.int64), axis=1)
        steps = graph.add(OnnxGreater, values, model.step_threshold_.astype(np.float64))
        terms = graph.add(OnnxCast, steps, to=TensorProto.DOUBLE)
    unit = getattr(model, "multiplier_", 1.0)
    scores = graph.linear(terms, model.coef_ / unit, model.intercept_ / unit)
    log_odds = graph.add(OnnxReduceMaxApi18, scores, axes=[1], keepdims=1)
    if model.positive_class_ == model.classes_[0]:
        log_odds = graph.add(OnnxNeg, log_odds)
    graph.add_binary(log_odds)


def convert_stacking(scope, operator, container):
    """Add the nodes of an AUPRCStackingClassifier: the log-odds of its members, and their sum."""
    graph, model = Graph(scope, operator, container), operator.raw_operator
    members = model.named_estimators_.items()
    columns = [graph.add_member(name, member, model._n_train_) for name, member in members]
    Z = graph.add(OnnxSub, graph.add(OnnxConcat, *columns, axis=1), model.center_)
    log_odds = graph.linear(graph.add(OnnxDiv, Z, model.scale_), model.coef_, model.intercept_)
    graph.add_binary(log_odds, above=logit(model.threshold_))


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
    AUPRCStackingClassifier: convert_stacking,
    PUTrendClassifier: convert_pu_trend,
    SMaLLClassifier: convert_small,
    TOPRPolicy: convert_topr,
}


class Tree(NamedTuple):
    """The nodes of a tree: arrays with an entry, or a row of values, for each node."""

    left: Array  # where a feature is at most the threshold
    right: Array
    feature: Array
    threshold: Array
    missing_to_left: Array
    is_leaf: Array
    values: Array


class Graph:
    """The nodes of one classifier; `X` is its input in double precision."""

    def __init__(self, scope, operator, container):
        self.scope, self.operator, self.container = scope, operator, container
        self.X = self.add(OnnxCast, operator.inputs[0], to=TensorProto.DOUBLE)
        # Asked for by skl2onnx where scikit-learn calls decision_function, to calibrate say.
        options = container.get_options(operator.raw_operator, {"raw_scores": False})
        self.is_raw = options["raw_scores"]
        # As in scikit-learn, transformers keep float32.
        is_float = isinstance(operator.inputs[0].type, FloatTensorType)
        self.kind = FloatTensorType if is_float else DoubleTensorType

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
        X, last = self.add_transformers(final)
        probability = self.add_classifier(last, X)
        positive = self.add(OnnxGather, probability, np.array([1]), axis=1)
        self.add_outputs(self.is_above(positive, 0.5), probability, OnnxIdentity)

    def add_transformers(self, model):
        """Return what the last step of a pipeline sees, a variable, and this step."""
        *transformers, last = model.steps if isinstance(model, Pipeline) else [(None, model)]
        X = self.cast(self.operator.inputs[0], self.kind)
        for _, step in transformers:
            if isinstance(step, StandardScaler):
                # Not times the inverse: trees must see the digits that they see in scikit-learn.
                self.container.add_options(id(step), {"div": "div"})
            (X,) = self.add_model(step, X, type(X.type))
        return X, last[1]

    def add_classifier(self, model, X):
        """Return the probabilities of a scikit-learn classifier in double precision."""
        if isinstance(model, FORESTS):
            return self.add_forest(model, X)
        kinds = Int64TensorType, DoubleTensorType
        return self.add_model(model, self.cast(X, DoubleTensorType), *kinds)[1]

    def add_model(self, model, X, *kinds):
        """Add a model that skl2onnx converts; return its outputs, variables of these types."""
        inner = self.scope.declare_local_operator(get_model_alias(type(model)), model)
        inner.inputs.append(X)
        for kind in kinds:
            inner.outputs.append(self.scope.declare_local_variable("inner", kind()))
        return inner.outputs

    def add_member(self, name, member, n_train):
        """Return the log-odds of a member of a stack, of shape (n_samples, 1).

        Raises
        ------
        NotImplementedError
            If it does not convert; it is named.
        """
        *transformers, last = member.steps if isinstance(member, Pipeline) else [(None, member)]
        known = *LINEAR, *FORESTS, HistGradientBoostingClassifier, *OTHER_MEMBERS
        if not isinstance(last[1], known) or hasattr(last[1], "module_"):
            refuse_member(name, f"its {type(last[1]).__name__} is none of {names_of(known)}")
        if transformers:
            try:  # alone first: within the graph, the errors of skl2onnx name no member
                given = [("X", self.kind([None, member.n_features_in_]))]
                convert_sklearn(Pipeline(transformers), initial_types=given)
            except Exception as error:
                refuse_member(name, "skl2onnx has no graph for its transformers", error)
        X, model = self.add_transformers(member)
        if isinstance(model, LINEAR):
            X = self.add(OnnxCast, X, to=TensorProto.DOUBLE)
            return self.linear(X, model.coef_, model.intercept_)
        if isinstance(model, HistGradientBoostingClassifier):
            if model.is_categorical_ is not None:
                refuse_member(name, "its boosted trees have categorical features")
            return self.add_boosted_trees(model, X)
        n_votes = len(model.estimators_) if isinstance(model, FORESTS) else n_train
        # From both columns, as the smaller one has digits that one minus the larger has lost.
        votes = self.add(OnnxMul, self.add_classifier(model, X), np.array([float(n_votes)]))
        logs = self.add(OnnxLog, self.add(OnnxAdd, votes, np.array([0.5])))
        return self.add(OnnxMatMul, logs, np.array([[-1.0], [1.0]]))

    def add_boosted_trees(self, model, X):
        """Return the log-odds of a HistGradientBoostingClassifier, of shape (n_samples, 1)."""
        nodes = [predictor.nodes for (predictor,) in model._predictors]
        trees = [
            Tree(
                left=tree["left"],
                right=tree["right"],
                feature=tree["feature_idx"],
                threshold=tree["num_threshold"],
                missing_to_left=tree["missing_go_to_left"],
                is_leaf=tree["is_leaf"] == 1,
                values=tree["value"][:, np.newaxis],
            )
            for tree in nodes
        ]
        return self.add(OnnxAdd, self.add_trees(trees, X), model._baseline_prediction)

    def add_forest(self, model, X):
        """Return the probabilities of a forest."""
        trees = [
            Tree(
                left=tree.children_left,
                right=tree.children_right,
                feature=tree.feature,
                threshold=tree.threshold,
                missing_to_left=tree.missing_go_to_left,
                is_leaf=tree.children_left < 0,
                values=tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True),
            )
            for tree in (estimator.tree_ for estimator in model.estimators_)
        ]
        # They compare in 32 bits, in scikit-learn too.
        votes = self.add_trees(trees, self.cast(X, FloatTensorType))
        return self.add(OnnxDiv, votes, np.array([float(len(trees))]))

    def add_trees(self, trees, X):
        """Return the sums of the trees' values, of shape (n_samples, n_values).

        skl2onnx has no such graph of the boosted trees, nor of those for missing values.
        """
        nodes = Tree(*map(np.concatenate, zip(*trees, strict=True)))
        sizes = [len(tree.is_leaf) for tree in trees]
        tree_ids = np.repeat(np.arange(len(trees)), sizes)
        node_ids = np.concatenate([np.arange(size) for size in sizes])
        leaf, n_values = nodes.is_leaf, nodes.values.shape[1]
        whole = {
            "nodes_treeids": tree_ids,
            "nodes_nodeids": node_ids,
            "nodes_featureids": np.where(leaf, 0, nodes.feature),
            "nodes_truenodeids": np.where(leaf, 0, nodes.left),
            "nodes_falsenodeids": np.where(leaf, 0, nodes.right),
            "nodes_missing_value_tracks_true": np.where(leaf, 0, nodes.missing_to_left),
            "target_treeids": np.repeat(tree_ids[leaf], n_values),
            "target_nodeids": np.repeat(node_ids[leaf], n_values),
            "target_ids": np.tile(np.arange(n_values), leaf.sum()),
        }
        real = {
            "nodes_values_as_tensor": np.where(leaf, 0.0, nodes.threshold),
            "target_weights_as_tensor": nodes.values[leaf].ravel(),
        }
        total = self.scope.declare_local_variable("trees", FloatTensorType([None, n_values]))
        self.container.add_node(
            "TreeEnsembleRegressor",
            [self.cast(X, DoubleTensorType).full_name],
            [total.full_name],
            op_domain="ai.onnx.ml",
            op_version=3,
            name=self.scope.get_unique_operator_name("Trees"),
            n_targets=n_values,
            nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
            **{key: values.astype(int).tolist() for key, values in whole.items()},
            **{key: from_array(values.astype(np.float64)) for key, values in real.items()},
        )
        return self.add(OnnxCast, total, to=TensorProto.DOUBLE)

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


def refuse_member(name, why, error=None):
    """Raise NotImplementedError for a member of a stack."""
    raise NotImplementedError(f"Member {name!r} does not convert to ONNX: {why}.") from error


def names_of(classes):
    """Return the names of classes, joined by commas."""
    return ", ".join(item.__name__ for item in classes)
