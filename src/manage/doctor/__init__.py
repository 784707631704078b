"""``doctor``: whether a deployment is healthy, and what to do where it is not."""
