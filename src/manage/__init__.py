"""What the operator types: ``python -m src.manage …``."""
