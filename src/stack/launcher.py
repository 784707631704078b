"""Start MongoDB, supervisord with the workers, and nginx; monitor them, and stop them together."""

import http.client
import os
import pwd
import re
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from ..core.addresses import join_host_and_port
from ..core.core_dumps import forbid_core_dumps
from ..core.crypto.keys import ensure_key_file, read_key_ring
from ..core.database.embedded import MongodError, embedded_mongod
from ..core.files import rotate_at, take_lock
from ..core.running_settings import LAUNCHER, RunningSettings, publish
from ..core.supervisor import RestartLoops, Supervisor, SupervisorError
from ..core.workers import WORKERS, fits_a_socket, is_ready, locate_run_directory, worker_sockets
from ..pages.assets import STATIC
from ..pages.branding import read_brand
from ..settings import Settings
from .nginx import Tls, render
from .processes import start, stop
from .served_certificate import ServedCertificate, check_certificate, provide_certificate

SUPERVISORD_CONF = Path(__file__).parents[2] / "confs" / "supervisor" / "supervisord.conf"
_APP_MODULE = (__package__ or "").rpartition(".")[0] + ".app"
_SBIN = (
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/opt/homebrew/bin",
)  # nginx may be here, but not every PATH includes these
_METRICS_HOST = "127.0.0.1"
_READY_TIMEOUT = 60.0
_NGINX_STOP_SECONDS = 8.0  # seconds for requests in progress
_WORKERS_STOP_SECONDS = 20.0  # seconds, above stopwaitsecs
_WATCH_INTERVAL = 0.2
_STATES_INTERVAL = 1.0  # seconds; supervisord waits at least as long before each restart of a worker
_SHORT_STARTS = 2  # consecutive, of one worker; one more is a restart loop
_STDERR_CHARACTERS = 2000  # characters of a worker's stderr to show
_UNUSABLE_IN_NGINX = re.compile(r'[$"\\\x00-\x1f\x7f\ud800-\udfff]')  # surrogates represent bytes that are not UTF-8


class StackError(Exception):
    """The stack cannot start or cannot continue; the message says why and what to do."""


def run_directory(data_dir: Path) -> Path:
    """Return the stack's private directory for sockets and configuration; create it with mode 0700 if it is missing."""
    path = locate_run_directory(data_dir)
    if not fits_a_socket(path):
        raise StackError(
            f"The path of {path} is too long for a unix socket. Set TMPDIR to a shorter path, such as /tmp."
        )
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise StackError(f"{path} must be a directory that you own, with mode 0700. Remove it and start again.")
    return path


class Ports(NamedTuple):
    """The ports of nginx: ``https`` is used if TLS is on, and ``metrics``, on the loopback address, if it is given."""

    http: int
    https: int
    metrics: int | None


class Launcher:
    """One run of the whole stack.

    If the launcher is killed, the kernel terminates nginx and supervisord, and supervisord stops the workers. An
    embedded MongoDB keeps running, and the next run on the same data uses it; if it exits, it is restarted.
    """

    def __init__(self, settings: Settings, host: str, ports: Ports, log_dir: Path) -> None:
        self.settings = settings
        self.host = host
        self.ports = ports
        self.log_dir = log_dir.resolve()
        self._certificate: ServedCertificate | None = None
        self._signals = 0
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._loops = RestartLoops(allowed=_SHORT_STARTS)
        self._reported: list[int] = []
        self._asked_at = 0.0

    def run(self, ready: Callable[[str], None]) -> None:
        """Run the stack until a signal arrives; call ``ready`` with its address once it is ready.

        Raises `StackError` for an unusable path, and if a program is missing, does not start, or exits; the others are
        stopped first. Raises `SettingsError` and `CertificateError` for unusable branding and for a certificate that
        cannot be served, before anything starts.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                signal.signal(number, self._note_signal)
        # Keep logs and configuration private. supervisord sets its own mask for the workers' sockets.
        os.umask(0o077)
        forbid_core_dumps()
        self._check_paths()
        read_brand(self.settings)
        nginx = _find_nginx()
        self._check_ports()
        run_dir = run_directory(self.settings.data_dir)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            lock = _lock(run_dir)
            stack.callback(os.close, lock)
            self._certificate = provide_certificate(self.settings, self.host, run_dir / "tls.pem", _say)
            if self._certificate:
                stack.callback(self._certificate.remove)
            environment = self._environment(run_dir, stack)
            running = RunningSettings.of(self.settings, read_key_ring(self.settings), self.log_dir)
            stack.enter_context(publish(run_dir, LAUNCHER, running))
            if self._signals:
                return
            self._launch(stack, environment, lock, nginx, run_dir)
            self._await_readiness(run_dir)
            if not self._signals:
                ports = self.ports
                ready(f"https://{self._at(ports.https)}" if self._certificate else f"http://{self._at(ports.http)}")
            while not self._signals:
                self._check_children()
                self._check_workers(run_dir)
                if self._certificate and self._certificate.follow(_say):
                    self._children["nginx"].send_signal(signal.SIGHUP)
                if rotate_at(self.log_dir / "access.jsonl", self.settings.log_max_bytes, self.settings.log_backups):
                    self._children["nginx"].send_signal(signal.SIGUSR1)
                time.sleep(_WATCH_INTERVAL)

    def _note_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (a handler's signature)
        # Do not raise: that could interrupt the shutdown of a child. A second signal shortens the shutdown.
        self._signals += 1

    def _at(self, port: int) -> str:
        return join_host_and_port(self.host, port)

    def _check_paths(self) -> None:
        paths = {
            "Sealpost's own directory": STATIC,
            "the data directory (SEALPOST_DATA_DIR)": self.settings.data_dir.resolve(),
            "the directory for sockets": locate_run_directory(self.settings.data_dir),
            "the log directory": self.log_dir,
        }
        for name, path in paths.items():
            if found := _UNUSABLE_IN_NGINX.search(str(path)):
                raise StackError(
                    f"nginx cannot use the path of {name}, {str(path)!r}, because it contains {found[0]!r}. Use a path"
                    ' without $, ", backslashes, control characters and bytes that are not UTF-8.'
                )

    def _check_ports(self) -> None:
        _check_port(self.host, self.ports.http, "PORT=9090")
        if check_certificate(self.settings):
            if self.ports.https == self.ports.http:
                raise StackError(
                    f"HTTP and HTTPS cannot share port {self.ports.http}. Choose another port: TLS_PORT=8443"
                )
            _check_port(self.host, self.ports.https, "TLS_PORT=9443")
        if self.ports.metrics is not None:
            _check_port(_METRICS_HOST, self.ports.metrics, "METRICS_PORT=9146")

    def _environment(self, run_dir: Path, stack: ExitStack) -> dict[str, str]:
        """Return the environment of the children; start an embedded MongoDB if no URL is configured."""
        environment = {
            "APP_MODULE": _APP_MODULE,
            **os.environ,
            "RUN_DIR": str(run_dir),
            "LOG_DIR": str(self.log_dir),
            "METRICS_DIR": str(run_dir / "metrics"),
            "PYTHON": sys.executable,
        }
        if "hashing_threads" not in self.settings.model_fields_set:
            # The workers share the cores: more threads than cores would only use memory and compete for the caches.
            environment["SEALPOST_HASHING_THREADS"] = str(max(1, (os.cpu_count() or 1) // WORKERS))
        if "gathered_file" not in self.settings.model_fields_set:
            environment["SEALPOST_GATHERED_FILE"] = str(self.log_dir / "gathered.jsonl")
        if self.settings.keys is None:
            environment["SEALPOST_KEYS_FILE"] = str(ensure_key_file(self.settings.data_dir.resolve() / "keys"))
        if self.settings.mongo_url is None:
            try:
                url = stack.enter_context(embedded_mongod(self.settings.data_dir, self.settings.mongod))
            except MongodError as error:
                raise StackError(str(error)) from error
            environment["SEALPOST_MONGO_URL"] = url
        return environment

    def _launch(self, stack: ExitStack, environment: Mapping[str, str], lock: int, nginx: str, run_dir: Path) -> None:
        """Start supervisord and nginx; the exit stack stops them, nginx first."""
        for stale in run_dir.glob("*.sock"):
            stale.unlink()
        # The metrics of a new stack start from 0.
        shutil.rmtree(run_dir / "metrics", ignore_errors=True)
        temp_dir = run_dir / "nginx"
        temp_dir.mkdir(exist_ok=True)
        configuration = run_dir / "nginx.conf"
        configuration.write_text(
            render(
                self.settings,
                listen=[self._at(self.ports.http)],
                metrics_listen=(
                    [] if self.ports.metrics is None else [join_host_and_port(_METRICS_HOST, self.ports.metrics)]
                ),
                socket_dir=run_dir,
                log_dir=self.log_dir,
                temp_dir=temp_dir,
                pid_file=run_dir / "nginx.pid",
                # Started by root, nginx would switch to a user who cannot access the sockets.
                user=pwd.getpwuid(0).pw_name if os.geteuid() == 0 else None,
                tls=(
                    Tls([self._at(self.ports.https)], self._certificate.path, self.ports.https)
                    if self._certificate
                    else None
                ),
            ),
            encoding="utf-8",
        )
        commands: dict[str, tuple[list[str | Path], signal.Signals, float]] = {
            "supervisord": (
                [sys.executable, "-m", "supervisor.supervisord", "--silent", "-c", SUPERVISORD_CONF],
                signal.SIGTERM,
                _WORKERS_STOP_SECONDS,
            ),
            "nginx": (
                [nginx, "-e", self.log_dir / "nginx.log", "-c", configuration, "-g", "daemon off;"],
                signal.SIGQUIT,
                _NGINX_STOP_SECONDS,
            ),
        }
        for name, (command, number, seconds) in commands.items():
            # Each child inherits the lock, so no second stack starts here while one of them runs.
            # nginx needs no setting, so do not pass it the secrets.
            child_environment = environment if name == "supervisord" else {"PATH": os.environ.get("PATH", os.defpath)}
            child = start(command, child_environment, [lock])
            stack.callback(stop, child, number, seconds, lambda: self._signals > 1)
            self._children[name] = child

    def _check_children(self) -> None:
        for name, child in self._children.items():
            if child.poll() is not None:
                raise StackError(f"{name} exited unexpectedly ({child.returncode}). Its log is in {self.log_dir}.")

    def _check_workers(self, run_dir: Path) -> None:
        """Report workers in a restart loop. Raises `StackError` if all workers are."""
        if time.monotonic() < self._asked_at + _STATES_INTERVAL:
            return
        self._asked_at = time.monotonic()
        looping = self._looping(run_dir)
        if len(looping) == WORKERS:
            raise StackError(f"All workers exit repeatedly. {self._stderr_tail(looping[0])}")
        for number in looping:
            if number not in self._reported:
                _say(f"worker {number} exits repeatedly. {self._stderr_tail(number)}")
        self._reported = looping

    def _looping(self, run_dir: Path) -> list[int]:
        try:
            return self._loops.note(Supervisor(run_dir).workers())
        except SupervisorError:  # it is starting or stopping; `_check_children` detects its exit
            return []

    def _stderr_tail(self, number: int) -> str:
        """Return the end of a worker's standard error, for the operator."""
        path = self.log_dir / f"worker-{number}.err"
        try:
            text = path.read_text(encoding="utf-8", errors="replace")[-_STDERR_CHARACTERS:].strip()
        except OSError:
            text = ""
        return f"{path} ends with:\n{text}" if text else f"Its logs are in {self.log_dir}."

    def _await_readiness(self, run_dir: Path) -> None:
        """Wait until all workers listen and one is ready. Raises `StackError` for a worker in a restart loop."""
        sockets = worker_sockets(run_dir)
        deadline = time.monotonic() + _READY_TIMEOUT
        while not (all(path.exists() for path in sockets) and self._is_ready()) and not self._signals:
            self._check_children()
            if looping := self._looping(run_dir):
                raise StackError(f"Worker {looping[0]} exits repeatedly. {self._stderr_tail(looping[0])}")
            if time.monotonic() > deadline:
                raise StackError(f"Not ready after {_READY_TIMEOUT:.0f} s. The workers' logs are in {self.log_dir}.")
            time.sleep(_WATCH_INTERVAL)

    def _is_ready(self) -> bool:
        # The wildcard addresses include the loopback address.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (compared, not bound)
        if self._certificate is None:
            return is_ready(http.client.HTTPConnection(host, self.ports.http, timeout=5))
        # Our own nginx: its certificate may not name this address.
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        return is_ready(http.client.HTTPSConnection(host, self.ports.https, timeout=5, context=trusting))


def _say(text: str) -> None:
    sys.stderr.write(f"sealpost: {text}\n")
    sys.stderr.flush()


def _check_port(host: str, port: int, remedy: str) -> None:
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise StackError(
            f"Cannot listen on {join_host_and_port(host, port)}: {error.strerror}. Choose another port: {remedy}"
        ) from error


def _find_nginx() -> str:
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SBIN))
    nginx = shutil.which("nginx", path=path)
    if nginx is None:
        raise StackError(
            "nginx is not installed. Install it (`apt-get install nginx`, `brew install nginx`), or use `make run`."
        )
    return nginx


def _lock(run_dir: Path) -> int:
    """Lock the run directory; the kernel releases the lock when the last process that holds it has exited."""
    try:
        return take_lock(run_dir / "lock")
    except BlockingIOError:
        raise StackError(f"A stack is running or stopping in {run_dir.parent}.") from None
