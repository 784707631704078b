"""MongoDB: the client, group commit, limits and budgets, and the checks that a process must pass to write."""
