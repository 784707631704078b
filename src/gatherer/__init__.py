"""Gathering messages from programs: identify, authenticate, send."""
