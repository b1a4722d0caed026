"""From NumPy to torch and back, for the kernels on tensors. Importing this module needs torch."""

import warnings

import numpy as np
import torch


def as_array(array, device):
    """Return a NumPy array or sparse matrix as a tensor on the device."""
    if isinstance(array, np.ndarray):
        return torch.tensor(array, device=device)
    array = array.tocsr()
    parts = (torch.tensor(part) for part in (array.indptr, array.indices, array.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            *parts, size=array.shape, device=device, check_invariants=False
        )


def to_numpy(array):
    """Return a tensor as a NumPy array."""
    return array.cpu().numpy()
