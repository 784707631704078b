"""What the scenarios of the bench need in a stack: users, tokens, keys of secrets, posts."""

import asyncio
import json
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

from src.accounts.auth import Scope
from src.core.database.embedded import embedded_mongod

from .connection import WrongAnswerError, connect, log_in
from .fill import read_ring, write_keys
from .fill_posts import AUTHORS, fill_posts
from .logins import CREDENTIALS, make_user

PHRASE = "correct horse"
POSTS, PAGE = 2000, 20
LIKED = 256
"""More than the requests in flight, so that no two of them change the same reaction."""


class Supplies:
    """The supplies of one stack, made when they are first needed.

    The stack uses the MongoDB at ``mongo_url``; without one, that under its data directory.
    """

    def __init__(self, url: str, data_dir: Path, mongo_url: str | None = None) -> None:
        self._url = url
        self._data_dir = data_dir
        self._mongo_url = mongo_url

    @cached_property
    def api_token(self) -> str:
        """An API token with the scopes echo and gather."""
        body = {"name": "bench", "scopes": [Scope.ECHO, Scope.GATHER]}
        return str(self._create("/tokens", body, self.access_token())["token"])

    @cached_property
    def post_ids(self) -> list[str]:
        """The ids of stored posts, oldest first."""
        with self._database() as mongo_url:
            filled = asyncio.run(fill_posts(mongo_url, read_ring(self._data_dir), posts=POSTS, people=AUTHORS))
        return [one.hex() for one in filled.post_ids]

    def access_token(self) -> str:
        """Log in and return an access token; it is valid for 10 minutes, which is less than all rounds may last."""
        return log_in(self._url, self._credentials)

    def message_path(self, text: str) -> str:
        """Create a message and return its path."""
        url = str(self._create("/", {"message": text})["url"])
        return f"/message/{url.rpartition('/')[2]}"

    def feed_path(self) -> str:
        """Return the path of the first page of a feed that has at least one full page."""
        return f"/posts?limit={min(PAGE, len(self.post_ids))}"

    def keys(self, count: int, text: str, phrase: str | None = None) -> Path:
        """Create secrets and return the file with their keys."""
        with self._database() as mongo_url:
            return write_keys(mongo_url, self._data_dir, count, phrase, text)

    def reactions(self) -> Path:
        """Return a file with paths below ``/posts/`` that, sent again and again, change a reaction each time."""
        path = self._data_dir / "reactions"
        lines = [f"{one}/{kind}" for kind in ("like", "dislike") for one in self.post_ids[-LIKED:]]
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        return path

    @cached_property
    def _credentials(self) -> dict[str, str]:
        asyncio.run(make_user(self._url))
        return CREDENTIALS

    def _database(self) -> AbstractContextManager[str]:
        return nullcontext(self._mongo_url) if self._mongo_url else embedded_mongod(self._data_dir)

    def _create(self, path: str, body: object, token: str = "") -> Any:
        """Send a request and return the answer. Raises `WrongAnswerError` for any status but 201."""
        connection = connect(self._url)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        answer = json.load(response)
        connection.close()
        if response.status != HTTPStatus.CREATED:
            raise WrongAnswerError(f"POST {path}: {response.status}")
        return answer
