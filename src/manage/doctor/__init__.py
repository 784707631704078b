"""``doctor``: check a deployment, and suggest fixes."""
