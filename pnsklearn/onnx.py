"""Export to ONNX, through skl2onnx."""

from pnsklearn._device import check_installed

__all__ = ["register_converters"]


def register_converters() -> None:
    """Let skl2onnx convert the estimators of this package, alone or in a pipeline.

    To be called once, before ``skl2onnx.to_onnx``; a second call changes nothing. These convert:

    - `AUPRCClassifier` and `TOPRPolicy` without a torch module,
    - `AUPRCStackingClassifier`, if all its members do: `LogisticRegression`, `SGDClassifier`,
      `AUPRCClassifier`, `HistGradientBoostingClassifier` without categorical features,
      `RandomForestClassifier`, `ExtraTreesClassifier`, `GaussianNB`, `KNeighborsClassifier` or
      `MLPClassifier`, alone or at the end of a pipeline (of the default members "splines" does
      not),
    - `SMaLLClassifier`,
    - `PUTrendClassifier`, if its second stage is the default, ``"same"`` of the linear model, or a
      `LogisticRegression`, `SGDClassifier`, `RandomForestClassifier` or `ExtraTreesClassifier`,
      alone or at the end of a pipeline.

    A graph has two outputs, the labels (int64 or strings) of shape (n_samples,) and the
    probabilities of shape (n_samples, n_classes), in the precision of X. They are those of
    `predict` and `predict_proba` to within 1e-6; what may round more is in the
    :ref:`User Guide <saving>`. skl2onnx's options `zipmap`, `nocl`, `output_class_labels` and,
    but for `PUTrendClassifier`, `raw_scores` apply.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    Notes
    -----
    The conversion of any other model of this package raises NotImplementedError.

    Examples
    --------
    >>> from skl2onnx import to_onnx
    >>> from sklearn.datasets import load_breast_cancer
    >>> from pnsklearn import AUPRCClassifier
    >>> from pnsklearn.onnx import register_converters
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = AUPRCClassifier(alpha=0.1).fit(X, y)
    >>> register_converters()
    >>> graph = to_onnx(model, X[:1], options={"zipmap": False})
    >>> [output.name for output in graph.graph.output]
    ['label', 'probabilities']
    """
    check_installed("skl2onnx", "register_converters", "onnx")
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes

    from pnsklearn._onnx import CONVERTERS

    for estimator, converter in CONVERTERS.items():
        update_registered_converter(
            estimator,
            f"Pnsklearn{estimator.__name__}",
            calculate_linear_classifier_output_shapes,
            converter,
            options={
                "zipmap": [True, False, "columns"],
                "nocl": [True, False],
                "output_class_labels": [False, True],
                "raw_scores": [True, False],
            },
        )
