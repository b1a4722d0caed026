"""A study for each claim of the documentation, run as `python -m benchmarks STUDY`."""
