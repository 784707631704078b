"""The infrastructure that all features share: cryptography, MongoDB, metrics, TLS, files, logs."""
