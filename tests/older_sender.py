"""A sender's program, written from the section *The gatherer* of docs/api.md alone, with the standard library alone.

`python tests/older_sender.py HOST PORT API_TOKEN` goes through every state, and every refusal that a sender can bring
about by itself. It reads each member that the documentation promises without looking whether it is there, prints a line
for each answer, and fails on the first that is not as documented.
"""

import http.client
import json
import sys
from typing import Any


class Sender:
    """A client of the older service: it posts, and prints ``status_message``."""

    def __init__(self, host: str, port: int, address: str = "") -> None:
        self._host, self._port = host, port
        self._source = (address, 0) if address else None
        self.token = ""

    def _post(self, path: str, message: dict[str, Any] | bytes) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60, source_address=self._source)
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        connection.close()
        assert answer["status_code"] == response.status
        assert isinstance(answer["status_description"], str)
        sys.stdout.write(f"{path} {answer['status_code']} {answer['status_message']}\n")
        if response.status >= 400:
            assert answer["status_message"] == answer["detail"] == answer["Error"]
        return answer

    def identify(self, username: str) -> int:
        """Identify."""
        return int(self._post("/identify", {"message_type": "IDENTIFY", "username": username})["status_code"])

    def authenticate(self, username: str, password: str) -> int:
        """Authenticate; the token is read from every response."""
        message = {"message_type": "AUTHENTICATE", "username": username, "password": password}
        answer = self._post("/authenticate", message)
        self.token = answer["token"]
        assert (answer["status_code"] in {201, 202}) == (self.token != "")
        return int(answer["status_code"])

    def send(self, text: str, **fields: Any) -> int:
        """Send a message and return the status; a stored one has its number."""
        message = {"message_type": "MESSAGE", "token": self.token, "message": text, **fields}
        answer = self._post("/message", message)
        if answer["status_code"] == 201:
            assert answer["first_sequence"] <= answer["last_sequence"]
        elif answer["status_code"] == 202:
            assert answer["first_sequence"] is answer["last_sequence"] is None
        return int(answer["status_code"])

    def send_bytes(self, path: str, body: bytes) -> dict[str, Any]:
        """Send arbitrary bytes."""
        return self._post(path, body)


def expect(status: int, actual: int) -> None:
    """Fail unless a response has the documented status."""
    if status != actual:
        raise SystemExit(f"{status} is documented, and the answer was {actual}")


def main(host: str, port: int, api_token: str) -> None:
    """Go through the states: grounded, identified, authenticated, and back."""
    sender = Sender(host, port)
    # Grounded: only identifying is allowed.
    expect(401, sender.send("no token"))
    expect(403, sender.authenticate("older-1", "pass"))
    # Identified.
    expect(201, sender.identify("older-1"))
    expect(202, sender.identify("older-1"))
    expect(401, sender.send("no token yet"))
    expect(400, sender.authenticate("older-1", "abc"))
    expect(201, sender.authenticate("older-1", "pass"))
    # Authenticated.
    expect(201, sender.send("Hello, server!"))
    expect(201, sender.send("again", batch="b-1"))
    expect(201, sender.send("again", batch="b-1"))
    expect(409, sender.send("another", batch="b-1"))
    expect(400, sender.send("both", messages=["a"]))
    expect(202, sender.authenticate("older-1", "pass"))
    expect(403, sender.authenticate("older-1", "wrong"))
    expect(202, sender.authenticate("older-1", "pass"))
    old = sender.token
    expect(202, sender.send("logout"))
    # Grounded again, with an invalid token.
    expect(403, sender.send("after the logout"))
    expect(202, sender.identify("older-1"))
    expect(403, sender.send("out of order"))
    expect(403, sender.authenticate("older-1", "pass"))
    expect(202, sender.identify("older-1"))
    expect(202, sender.authenticate("older-1", "pass"))
    expect(202, sender.send(""))
    sender.token = old
    expect(403, sender.send("the first token"))
    # From another address.
    elsewhere = Sender(host, port, "127.0.0.2")
    expect(202, sender.identify("older-1"))
    expect(202, sender.authenticate("older-1", "pass"))
    elsewhere.token = sender.token
    expect(403, elsewhere.send("from elsewhere"))
    expect(201, sender.send("from here"))
    # An API token has no states: each line is stored.
    sender.token = api_token
    for line in ("one", "", "logout", "two"):
        expect(201, sender.send(line))
    # Bodies that cannot be parsed.
    for path in ("/identify", "/authenticate", "/message"):
        for body in (b"", b"{", b"[]", b"\xff\xfe", b"x" * 1_100_000, b"{" + b'"a":1,' * 100_000 + b'"b":1}'):
            answer = sender.send_bytes(path, body)
            expect(413 if len(body) > 1_048_576 else 400, answer["status_code"])
            if path == "/authenticate":
                expect(0, len(answer["token"]))
    expect(400, sender.identify("?"))
    expect(403, sender.authenticate("nobody-else", "password"))
    # Wrong passwords up to the limit.
    expect(202, sender.identify("older-1"))
    statuses = [sender.authenticate("older-1", f"wrong {number}") for number in range(60)]
    expect(429, statuses[-1])
    if set(statuses) != {403, 429}:
        raise SystemExit("a wrong password is 403 until it is 429")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
