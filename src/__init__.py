"""Sealpost: a self-hosted backend for words that should not outlive their purpose."""

__version__ = "0.1.0"
