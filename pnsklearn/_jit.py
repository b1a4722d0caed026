"""The compiled-function decorator of the package."""

from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache


class Cache(FunctionCache):
    """numba's cache on disk, where an index that cannot be read is empty.

    An index names the tuple classes of its signatures. It is read before its age is looked at, so
    that one of another version of the package, in which such a class had another name, would raise.
    """

    def load_overload(self, *args):
        """Return the compiled function of a signature, or None."""
        try:
            return super().load_overload(*args)
        except (AttributeError, ImportError):
            self.flush()
            return None


def njit(
    function: Callable | None = None, *, fastmath: bool | set[str] = False, inline: str = "never"
) -> Any:
    """Compile `function` lazily, without the GIL, cached on disk where that is possible.

    Neither the package folder nor the user's cache folder can be written in some installs; then it
    is compiled in memory.
    """
    if function is None:
        return lambda function: njit(function, fastmath=fastmath, inline=inline)
    # Nothing here is passed as a C function, and its wrapper takes a tenth of the compile time.
    options: Any = {"no_cfunc_wrapper": True, "nogil": True, "error_model": "numpy"}
    options |= {"fastmath": fastmath, "inline": inline}
    compiled = numba.njit(**options)(function)
    try:
        compiled._cache = Cache(function)
    except RuntimeError:
        pass
    return compiled
