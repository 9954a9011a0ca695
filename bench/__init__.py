"""Benchmarks: times and sizes, which tests do not judge. `python -m bench`; README.md says what is measured and how."""
