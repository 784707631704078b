"""What every feature stands on: storage, sealing, hashing, group commit, logs."""
