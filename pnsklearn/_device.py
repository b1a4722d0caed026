"""The one place that knows about devices: parse the name and pick the kernels."""

import importlib
import importlib.util


def check_module(name, what, extra, title=None):
    """Raise ImportError with the remedy when a module, needed for `what`, is not installed."""
    if importlib.util.find_spec(name) is None:
        raise ImportError(
            f"{what} needs {title or name}, which is not installed. Install it with "
            f"`pip install 'pnsklearn[{extra}]'`."
        )


def check_torch(what):
    """Raise ImportError with the remedy when torch, needed for `what`, is not installed."""
    check_module("torch", what, "torch", "PyTorch")


def check_device(device):
    """Raise a clear error unless `device` is "cpu" or an available CUDA device.

    Parameters
    ----------
    device : str
        "cpu", "cuda" or "cuda:N".

    Raises
    ------
    ValueError
        If the name is none of these, or the GPU is not there.
    ImportError
        If a CUDA device is asked for and torch is not installed.
    """
    name, _, index = str(device).partition(":")
    if device != "cpu" and (name != "cuda" or (index and not index.isdigit())):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}.")
    if name == "cuda":
        check_torch(f"device={device!r}")
        import torch

        if int(index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"device={device!r} was asked for, but PyTorch sees "
                f"{torch.cuda.device_count()} CUDA devices. Use device='cpu'."
            )


def get_kernels(method, device):
    """Return the module with the kernels of `method` ("auprc", ...) for `device`.

    Both modules offer the same functions: NumPy arrays and numba for "cpu", torch tensors for
    "cuda".
    """
    backend = "_kernels" if device == "cpu" else "_torch"
    return importlib.import_module(f"pnsklearn._{method}.{backend}")
