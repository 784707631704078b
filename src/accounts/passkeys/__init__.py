"""Passkeys: signing in with WebAuthn (Web Authentication, level 2) instead of a password."""
