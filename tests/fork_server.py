"""A server that forks, `python -m tests.fork_server DESCRIPTOR`: programs without the second that each imports for.

It imports Sealpost once. Each program that `programs.running` asks for is a fork of it: a process of its own, with
arguments, environment, streams and a session of its own, which runs and ends as under `python -m` or `python -c`. Only
what is read from the environment while modules are imported is the server's.
"""

import gc
import importlib
import json
import os
import runpy
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .tracing import leave_motor_out, write_out

PRELOADED = ("src.command", "src.app", "src.manage.__main__")
LARGEST_ORDER = 1 << 20
STREAMS = ("stdin", "stdout", "stderr")


def serve(orders: socket.socket) -> None:
    """Fork for each order until the asker has gone; return in each program at its end, too."""
    for module in PRELOADED:
        importlib.import_module(module)
        # It is run as the main module, and only what it imports is there already.
        del sys.modules[module]
    leave_motor_out()
    write_out()
    # A collection would touch, and so copy, all that the forks share.
    gc.freeze()
    while True:
        text, descriptors, *_ = socket.recv_fds(orders, LARGEST_ORDER, len(STREAMS) + 1)
        while text and not text.endswith(b"\n"):
            text += orders.recv(LARGEST_ORDER)
        if not text:
            return
        if os.fork() == 0:
            orders.close()
            *streams, report = descriptors
            attend(json.loads(text), streams, socket.socket(fileno=report))
            return
        for descriptor in descriptors:
            os.close(descriptor)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def attend(order: Mapping[str, object], streams: Sequence[int], report: socket.socket) -> None:
    """Fork the program and report its process id, then its exit code; return in the program alone, at its end."""
    pid = os.fork()
    if pid == 0:
        report.close()
        become(streams, **order)  # type: ignore[arg-type]
        return
    for stream in streams:
        os.close(stream)
    report.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    # The asker may have gone meanwhile.
    with suppress(OSError):
        report.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def become(streams: Sequence[int], *, program: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a program given as to Python itself, ``-m MODULE …`` or ``-c SCRIPT …``, in this process."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    for number, (name, stream) in enumerate(zip(STREAMS, streams, strict=True)):
        os.dup2(stream, number)
        os.close(stream)
        old = getattr(sys, name)
        new = os.fdopen(number, "w" if number else "r", encoding=old.encoding, errors=old.errors, closefd=False)
        setattr(sys, name, new)
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    kind, what, *arguments = program
    sys.argv = [kind, *arguments]
    if kind == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 (a test's own script)
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
