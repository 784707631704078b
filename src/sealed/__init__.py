"""Secrets and their receipts: sealed items that open a limited number of times."""
