"""A worker for tests of nginx: on request it echoes what it receives, sleeps or dies."""

import argparse
import asyncio
import json
import os
import signal
from pathlib import Path

from aiohttp import web


async def answer(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    if (mark := request.query.get("die-once")) is not None:
        try:
            Path(mark).touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(float(request.query.get("sleep", "0")))
    if (size := request.query.get("size")) is not None:
        return web.Response(body=b"x" * int(size))
    told = {"method": request.method, "headers": dict(request.headers), "length": len(body), "pid": os.getpid()}
    return web.Response(text=json.dumps(told), status=int(request.query.get("status", "200")))


async def serve(path: Path) -> None:
    app = web.Application(client_max_size=1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    path.unlink(missing_ok=True)
    await web.UnixSite(runner, path).start()
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    path.unlink(missing_ok=True)
    await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("-U", type=Path)
    asyncio.run(serve(parser.parse_args().U))
