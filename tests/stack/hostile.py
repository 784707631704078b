"""Clients that send the most expensive bodies, in a separate process.

`python -m tests.stack.hostile HOST PORT` sends four at once, repeatedly. It writes a line when it starts, and at the
end, as JSON, the number of responses by status, the longest response in bytes, and the total duration.
"""

import http.client
import json
import sys
import threading
import time
from collections import Counter

from ..hostile_bodies import FORM_BODIES, JSON_BODIES, bomb

AT_ONCE = 4
PAUSE = 0.05  # seconds between one four and the next
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def main(host: str, port: int) -> None:
    requests: list[tuple[str, bytes, dict[str, str]]]
    requests = [(path, body, {}) for body in JSON_BODIES.values() for path in ("/login", "/message")]
    requests += [("/", body, FORM) for body in FORM_BODIES.values()]
    requests += [(path, bomb(), {"Content-Encoding": "gzip"}) for path in ("/login", "/delete", "/nowhere")]
    statuses: Counter[int] = Counter()
    longest = [0]

    all_together = threading.Barrier(AT_ONCE)

    def send() -> None:
        for path, body, headers in requests:
            all_together.wait()
            time.sleep(PAUSE)
            connection = http.client.HTTPConnection(host, port, timeout=60)
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            longest.append(len(response.read()))
            statuses[response.status] += 1
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(AT_ONCE)]
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    sys.stdout.write(json.dumps({"statuses": statuses, "longest": max(longest), "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
