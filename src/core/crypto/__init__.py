"""Keys, sealing, and all else that is derived from a key or a password."""
