"""Pytest's suite: `make test`. `python -m unittest` passes over it and finds the smoke test of `src/tests.py`."""

import unittest


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """Return no tests; named directly, say how to run them."""
    if pattern is None:
        raise SystemExit("These tests are pytest's. Run `make test`, or `python -m unittest src/tests.py`.")
    return unittest.TestSuite()
