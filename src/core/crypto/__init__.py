"""Cryptography: keys, sealing, blind indexes, signed tokens, password hashing."""
