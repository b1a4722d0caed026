"""What a display is made from: an estimator, or the pipeline that ends in it."""

from typing import Any


def last_step(estimator: Any, kind: type, attribute: str = "") -> Any:
    """Return the estimator, or the last step of a pipeline.

    Raises
    ------
    TypeError
        If that is not a `kind`, and has no `attribute` by which it would do for one.
    """
    last = estimator[-1] if hasattr(estimator, "steps") else estimator
    if not (isinstance(last, kind) or (attribute and hasattr(last, attribute))):
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(
            f"estimator must be {article} {kind.__name__}, got a {type(last).__name__}. A pipeline "
            "may end in it."
        )
    return last
