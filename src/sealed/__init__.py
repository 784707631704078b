"""Secrets, messages and their receipts: sealed items that open with a key in a link."""
