"""The dump: gathered messages as lines in a file, which one process of each host keeps up to date."""
