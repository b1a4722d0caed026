"""Estimators for Dask arrays and frames, fitted where the rows are. Importing needs Dask."""

from pnsklearn._device import check_installed

check_installed("distributed", "pnsklearn.dask", "dask", "Dask")

from pnsklearn.dask._auprc import DaskAUPRCClassifier  # noqa: E402
from pnsklearn.dask._topr import DaskTOPRPolicy  # noqa: E402

__all__ = ["DaskAUPRCClassifier", "DaskTOPRPolicy"]
