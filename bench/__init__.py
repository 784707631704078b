"""Benchmarks of the running stack, each a ratio within one run: `make bench`."""
