"""The compiled-function decorator of the package."""

from collections.abc import Callable
from typing import Any

import numba


def njit(function: Callable | None = None, *, fastmath: bool | set[str] = False) -> Any:
    """Compile `function` lazily, without the GIL, cached on disk where that is possible.

    ``cache=True`` raises at import when neither the package folder nor the user's cache folder
    can be written (a read-only install), so that case compiles in memory instead.
    """
    if function is None:
        return lambda function: njit(function, fastmath=fastmath)
    # Nothing here is passed as a C function, and its wrapper takes a tenth of the compile time.
    options: dict[str, Any] = {"no_cfunc_wrapper": True, "nogil": True, "error_model": "numpy"}
    options["fastmath"] = fastmath
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
