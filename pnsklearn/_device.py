"""Devices and optional packages: their checks, and arrays to and from tensors."""

import importlib.util
import warnings

import numpy as np

from pnsklearn._typing import Array, Matrix, Tensor


def check_installed(name: str, what: str, extra: str, title: str | None = None) -> None:
    """Raise ImportError with the remedy when a module, needed for `what`, is not installed."""
    if importlib.util.find_spec(name) is None:
        raise ImportError(
            f"{what} needs {title or name}, which is not installed. Install it with "
            f"`pip install 'pnsklearn[{extra}]'`."
        )


def check_torch(what: str) -> None:
    """Raise ImportError with the remedy when torch, needed for `what`, is not installed."""
    check_installed("torch", what, "torch", "PyTorch")


def check_device(device: str) -> None:
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


def as_tensor(array: Matrix, device: str) -> Tensor:
    """Return a NumPy array or sparse matrix as a tensor on the device."""
    import torch

    if isinstance(array, np.ndarray):
        return torch.tensor(array, device=device)
    array = array.tocsr()
    starts, indices, data = map(torch.tensor, (array.indptr, array.indices, array.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts, indices, data, size=array.shape, device=device, check_invariants=False
        )


def to_numpy(tensor: Tensor) -> Array:
    """Return a tensor as a NumPy array."""
    return tensor.cpu().numpy()
