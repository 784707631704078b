"""TLS certificates: the one that is served, and the one that the service signs itself."""
