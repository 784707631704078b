"""Measures the service level objectives on a stack under mixed traffic: `make slo`."""
