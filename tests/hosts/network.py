"""A network namespace per host, connected by a bridge, and packet loss between them."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROGRAMS = ("ip", "iptables", "setpriv")
_NAMESPACES = Path("/run/netns")
_PREFIX = "sealpost-hosts-"
_NETWORK = "10.77.0"
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Node:
    """A host of the network."""

    name: str
    namespace: str
    address: str

    def command(self, *arguments: str) -> list[str]:
        """Return a command that runs in the namespace and is killed when this process ends."""
        return ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", self.namespace, *arguments]


class NetworkError(Exception):
    """A network that this machine or this user cannot have; the message says why."""


class Network:
    """The hosts by name, and the faults between them."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes

    async def cut(self, some: Collection[str], others: Collection[str], *, one_way: bool = False) -> None:
        """Drop packets between two groups of hosts; ``one_way`` drops only those from ``others`` to ``some``."""
        pairs = [(here, there) for here in some for there in others]
        pairs += [] if one_way else [(there, here) for here, there in pairs]
        for here, there in pairs:
            await self._filter(here, "-A", "INPUT", "-s", self.nodes[there].address, "-j", "DROP")

    async def lose(self, probability: float) -> None:
        """Drop packets at random on every host. Raises `NetworkError` if the kernel does not support this."""
        at_random = ["-m", "statistic", "--mode", "random", "--probability", str(probability)]
        for name in self.nodes:
            try:
                await self._filter(name, "-A", "INPUT", "-i", "eth0", *at_random, "-j", "DROP")
            except subprocess.CalledProcessError:
                raise NetworkError("the kernel does not support random packet loss") from None

    async def heal(self) -> None:
        """Stop dropping packets."""
        for name in self.nodes:
            await self._filter(name, "-F")

    async def _filter(self, name: str, *arguments: str) -> None:
        # In a thread, so that clients continue.
        await asyncio.to_thread(_run, "ip", "netns", "exec", self.nodes[name].namespace, "iptables", "-w", *arguments)


@contextmanager
def running_network(names: Collection[str]) -> Iterator[Network]:
    """Create a network of hosts until the block ends. Raises `NetworkError`.

    Addresses exist only inside the namespaces. The bridge has its own namespace, so the machine's firewall does not
    apply to it.
    """
    if missing := [program for program in _PROGRAMS if not shutil.which(program, path=_PATH)]:
        raise NetworkError(f"not installed: {', '.join(missing)}")
    _remove_leftovers()
    prefix = f"{_PREFIX}{os.getpid()}-"
    bridge = prefix + "bridge"
    nodes = {name: Node(name, prefix + name, f"{_NETWORK}.{number}") for number, name in enumerate(names, start=11)}
    try:
        try:
            _run("ip", "netns", "add", bridge)
        except subprocess.CalledProcessError:
            raise NetworkError("this user may not create network namespaces") from None
        _run("ip", "-n", bridge, "link", "add", "bridge", "type", "bridge")
        _run("ip", "-n", bridge, "link", "set", "bridge", "up")
        for node in nodes.values():
            _join(node, bridge)
        yield Network(nodes)
    finally:
        for namespace in [*(node.namespace for node in nodes.values()), bridge]:
            if (_NAMESPACES / namespace).exists():
                _run("ip", "netns", "delete", namespace)


def _join(node: Node, bridge: str) -> None:
    _run("ip", "netns", "add", node.namespace)
    peer = ["peer", "name", "eth0", "netns", node.namespace]
    _run("ip", "-n", bridge, "link", "add", node.name, "type", "veth", *peer)
    _run("ip", "-n", bridge, "link", "set", node.name, "master", "bridge", "up")
    _run("ip", "-n", node.namespace, "address", "add", f"{node.address}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _run("ip", "-n", node.namespace, "link", "set", device, "up")


def _remove_leftovers() -> None:
    """Remove the namespaces of a test process that was killed."""
    for path in _NAMESPACES.glob(f"{_PREFIX}*"):
        process = path.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", process).exists():
            _run("ip", "netns", "delete", path.name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": _PATH})
