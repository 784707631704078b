"""Posts over HTTP."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

from aiohttp import web

from ..accounts.guards import CALLER
from ..api.routing import Guard, Route, id_of
from ..errors import Damaged
from .analytics import Analytics
from .problems import NotAuthor, PostNotFound
from .reactions import Reaction
from .schemas import (
    AnalyticsAnswer,
    AnalyticsQuery,
    CreatePost,
    DayAnswer,
    Feed,
    FeedQuery,
    PostAnswer,
    ReactionsAnswer,
)
from .service import PostService, PostView

POSTS = "posts"
_POST_ID = {"post_id": "The `id` of a post, from POST /posts or GET /posts."}


class PostRoutes:
    """The routes of posts."""

    def __init__(self, service: PostService, analytics: Analytics, guard: Guard) -> None:
        self._service = service
        self._analytics = analytics
        self._guard = guard

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/posts",
                tag=POSTS,
                summary="Publish a post",
                guard=self._guard,
                handler=self.create,
                body=CreatePost,
                stores=True,
                answer=PostAnswer,
                status=201,
                problems=(Damaged,),
            ),
            Route(
                method="GET",
                path="/posts",
                tag=POSTS,
                summary="List posts, newest first",
                description="No post is repeated or skipped while others are added or deleted.",
                guard=self._guard,
                handler=self.feed,
                query=FeedQuery,
                answer=Feed,
            ),
            Route(
                method="GET",
                path="/posts/analytics",
                tag=POSTS,
                summary="Count posts and reactions per day",
                guard=self._guard,
                handler=self.analytics,
                query=AnalyticsQuery,
                answer=AnalyticsAnswer,
            ),
            Route(
                method="GET",
                path="/posts/{post_id}",
                path_parameters=_POST_ID,
                tag=POSTS,
                summary="Get a post",
                guard=self._guard,
                handler=self.find,
                answer=PostAnswer,
                problems=(PostNotFound, Damaged),
            ),
            Route(
                method="DELETE",
                path="/posts/{post_id}",
                path_parameters=_POST_ID,
                tag=POSTS,
                summary="Delete one of your posts",
                description="With an operator's access token, it deletes any post.",
                guard=self._guard,
                handler=self.delete,
                status=204,
                problems=(PostNotFound, NotAuthor),
            ),
            self._reaction("PUT", "/posts/{post_id}/like", "Like a post", Reaction.LIKE),
            self._reaction("PUT", "/posts/{post_id}/dislike", "Dislike a post", Reaction.DISLIKE),
            self._reaction("DELETE", "/posts/{post_id}/reaction", "Remove your reaction to a post", None),
        ]

    async def create(self, request: web.Request, body: CreatePost) -> PostAnswer:
        """Publish a post."""
        ttl = body.ttl.span if body.ttl else None
        return _answer(await self._service.create(request[CALLER], title=body.title, content=body.content, ttl=ttl))

    async def feed(self, request: web.Request, query: FeedQuery) -> Feed:
        """List posts."""
        posts, cursor = await self._service.feed(
            request[CALLER], limit=query.limit, cursor=query.cursor, author=query.author
        )
        return Feed(posts=[_answer(post) for post in posts], next_cursor=cursor)

    async def analytics(self, _: web.Request, query: AnalyticsQuery) -> AnalyticsAnswer:
        """Count posts and reactions by day."""
        days = await self._analytics.days(date.fromisoformat(query.first), date.fromisoformat(query.last))
        return AnalyticsAnswer(
            days=[DayAnswer(date=day.date, posts=day.posts, likes=day.likes, dislikes=day.dislikes) for day in days]
        )

    async def find(self, request: web.Request, _: None) -> PostAnswer:
        """Show a post."""
        return _answer(await self._service.find(request[CALLER], id_of(request, "post_id")))

    async def delete(self, request: web.Request, _: None) -> None:
        """Delete one of the caller's posts; for an operator, any post."""
        await self._service.delete(request[CALLER], id_of(request, "post_id"))

    def _reaction(self, method: str, path: str, summary: str, reaction: Reaction | None) -> Route[Any]:
        return Route(
            method=method,
            path=path,
            path_parameters=_POST_ID,
            tag=POSTS,
            summary=summary,
            description="Idempotent. A like replaces a dislike, and vice versa.",
            guard=self._guard,
            handler=self._reacting(reaction),
            answer=ReactionsAnswer,
            problems=(PostNotFound, Damaged),
            stores=reaction is not None,
        )

    def _reacting(self, reaction: Reaction | None) -> Callable[[web.Request, None], Awaitable[ReactionsAnswer]]:
        async def react(request: web.Request, _: None) -> ReactionsAnswer:
            reactions = await self._service.react(request[CALLER], id_of(request, "post_id"), reaction)
            return ReactionsAnswer(likes=reactions.likes, dislikes=reactions.dislikes, mine=reactions.mine)

        return react


def _answer(view: PostView) -> PostAnswer:
    post = view.post
    return PostAnswer(
        id=post.post_id.hex(),
        author=view.author,
        title=post.content.title,
        content=post.content.content,
        created_at=post.created_at,
        expires_at=post.expires_at,
        likes=post.likes,
        dislikes=post.dislikes,
        mine=view.mine,
    )
