"""One script per claim of the documentation, run as `python -m benchmarks.NAME`."""
