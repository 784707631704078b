"""TLS certificates, served or self-signed."""
