"""A flood of requests from one address, in a separate process.

`python -m tests.stack.flood HOST PORT ADDRESS SECONDS` writes a line when it starts, and at the end the number of
responses by status, code and Retry-After.
"""

import asyncio
import json
import sys
import time
from collections import Counter

CONNECTIONS = 40
REQUEST = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n" + b'{"str": "s"}'


async def ask_on_and_on(host: str, port: int, address: str, until: float, answers: Counter[str]) -> None:
    reader, writer = await asyncio.open_connection(host, port, local_addr=(address, 0))
    while time.monotonic() < until:
        writer.write(REQUEST)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        problem = headers["content-type"] == "application/problem+json"
        code = body.get("code") if problem else "no problem"
        answers[f"{lines[0].split()[1]} {code} {headers.get('retry-after', '-')}"] += 1
    writer.close()


async def main(host: str, port: int, address: str, seconds: float) -> None:
    answers: Counter[str] = Counter()
    until = time.monotonic() + seconds
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONNECTIONS):
            tasks.create_task(ask_on_and_on(host, port, address, until, answers))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
