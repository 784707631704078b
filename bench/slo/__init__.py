"""The objectives, measured on a stack under mixed traffic: `make slo`."""
