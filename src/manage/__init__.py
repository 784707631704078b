"""The operator's commands: ``python -m src.manage``."""
