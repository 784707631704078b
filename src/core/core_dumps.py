"""Core dumps would contain keys and plaintext, so they are disabled."""

import resource
import sys


def forbid_core_dumps() -> None:
    """Disable core dumps of this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # Linux ignores a limit of 0 where core_pattern pipes dumps to a program, such as apport. There, 1 byte means no
    # dump at all (core(5), fs/coredump.c); for a file it is too small to hold one.
    lowest = 1 if sys.platform == "linux" else 0
    limit = lowest if hard == resource.RLIM_INFINITY else min(lowest, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
