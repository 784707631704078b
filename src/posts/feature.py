"""Wires posts and reactions together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ..accounts.auth import Authenticator, Scope
from ..accounts.directory import UserDirectory
from ..accounts.guards import BearerGuard
from ..api.features import Feature
from ..api.routing import Route
from ..core.background import background_tasks
from ..core.crypto.keys import KeyRing
from ..core.database.group_commit import Batching
from ..core.database.mongo import Indexes, Mongo
from ..core.metrics import Metrics
from . import reactions, store
from .analytics import Analytics
from .deletion import PostDeletion
from .reactions import ReactionStore
from .routes import PostRoutes
from .service import PostService
from .store import PostStore

INDEXES: Indexes = {**store.INDEXES, **reactions.INDEXES}
RESEALABLE = (store.RESEALABLE,)


class PostsFeature(Feature):
    """Posts and reactions; ``erase_user`` deletes the posts and reactions of a user."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        mongo: Mongo,
        batching: Batching,
        authenticator: Authenticator,
        directory: UserDirectory,
        metrics: Metrics,
    ) -> None:
        self._mongo = mongo
        self._posts = PostStore(mongo, ring, batching, metrics.damaged)
        self._reactions = ReactionStore(mongo, batching, metrics.damaged)
        self._deletion = PostDeletion(self._posts, self._reactions)
        self.erase_user = self._deletion.erase_user
        service = PostService(
            ring=ring,
            clock=mongo.clock,
            posts=self._posts,
            reactions=self._reactions,
            deletion=self._deletion,
            authenticator=authenticator,
            directory=directory,
        )
        self._routes = PostRoutes(service, Analytics(mongo), BearerGuard(authenticator, Scope.POSTS))

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return self._routes.routes()

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Finish deletions that other processes left unfinished."""
        async with background_tasks(self._mongo.when_set_up(self._deletion.watch)):
            yield

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._posts.close()
        await self._reactions.close()
