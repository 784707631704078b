"""Hosts and ports, as they are written in addresses."""


def join_host_and_port(host: str, port: int) -> str:
    """Write a host with its port; an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
