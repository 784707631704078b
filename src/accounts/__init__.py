"""Users, their sessions and their API tokens."""
