"""Cryptography: keys, sealing, blind indexes, signed and sealed tokens, password hashing."""
