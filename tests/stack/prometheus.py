"""A real Prometheus with the rules of the repository, which scrapes a stack of the tests."""

import importlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession

from bench.running_stack import free_port

from ..processes import PATIENCE

CONFIGURATION = Path(__file__).parents[2] / "confs" / "prometheus"
INTERVAL = "1s"

yaml: Any = importlib.import_module("yaml")  # schemathesis brings it, without types


class Prometheus:
    """A client of its API."""

    def __init__(self, url: str, session: ClientSession) -> None:
        self._url = url
        self._session = session

    async def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of a response."""
        async with self._session.post(f"{self._url}/api/v1/{path}", data=parameters) as response:
            answer = await response.json()

        assert answer["status"] == "success", (path, parameters, answer)
        return answer["data"]

    async def tell(self, path: str) -> Any:
        """Return the data of a GET."""
        async with self._session.get(f"{self._url}/api/v1/{path}") as response:
            return (await response.json())["data"]

    async def has_data(self, expression: str) -> bool:
        """Tell whether a query returns a number, not the result of a division by zero."""
        found = await self.ask("query", query=expression)
        return any(isfinite(float(sample["value"][1])) for sample in found["result"])

    async def is_ready(self) -> bool:
        """Tell whether it is ready."""
        try:
            async with self._session.get(f"{self._url}/-/ready") as response:
                return response.status == 200
        except ClientError:
            return False


@contextmanager
def running_prometheus(metrics_url: str, directory: Path) -> Iterator[str]:
    """Run it with much shorter intervals than the repository's until the block ends; yield its address."""
    configuration = yaml.safe_load((CONFIGURATION / "prometheus.yml").read_text(encoding="utf-8"))
    configuration["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    configuration["scrape_configs"][0]["static_configs"][0]["targets"] = [urlsplit(metrics_url).netloc]
    (directory / "rules").mkdir(parents=True)
    for path in (CONFIGURATION / "rules").glob("*.yml"):
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group["interval"] = INTERVAL
        (directory / "rules" / path.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    options = {
        "config.file": directory / "prometheus.yml",
        "storage.tsdb.path": directory / "data",
        "web.listen-address": address,
        "log.level": "warn",
    }
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            ["prometheus", *(f"--{name}={value}" for name, value in options.items())],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()
