"""Posts and reactions, and checks that the server shows both correctly."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..addresses import parse_id
from ..errors import NotSealpost, WrongUsage
from ..responses import JsonObject, Response
from .accounts import Accounts
from .calls import Failed, MeasuredClient, NotDone
from .plan import Move, PlannedPost, PlannedReaction
from .tally import Action, Check, Findings

LIFE = {"days": 1}
"""Of posts that are not kept, in case the bot is killed before it deletes them."""

Opinions = frozenset[str | None]
NONE: Opinions = frozenset({None})


@dataclass
class PublishedPost:
    """A published post. ``opinions`` has the possible reactions of each user, several after a lost response."""

    id: str
    number: int
    author: str
    planned: PlannedPost
    opinions: dict[int, Opinions] = field(default_factory=dict)

    def bounds(self, opinion: str) -> range:
        """Return the possible numbers of users with an opinion."""
        certain = sum(one == {opinion} for one in self.opinions.values())
        return range(certain, sum(opinion in one for one in self.opinions.values()) + 1)

    def is_shown_by(self, record: Mapping[str, object]) -> bool:
        """Return whether a server's record has the author, title and content that were sent."""
        shown = tuple(record.get(name) for name in ("id", "author", "title", "content"))
        return shown == (self.id, self.author, self.planned.title, self.planned.content)

    def __str__(self) -> str:
        return f"post {self.number} ({self.id})"


class Posts:
    """All posts of a run."""

    def __init__(self, client: MeasuredClient, accounts: Accounts, findings: Findings, *, keep: bool) -> None:
        self._client, self._accounts, self._findings, self._keep = client, accounts, findings, keep
        self.published: dict[int, PublishedPost] = {}
        self.uncertain: set[int] = set()
        """Authors who may have another post, because a response was lost."""

    async def publish(self, number: int, planned: PlannedPost) -> None:
        """Publish a post."""
        title = {"title": planned.title} if planned.title else {}
        life = {} if self._keep else {"ttl": LIFE}
        body = {"content": planned.content, **title, **life}
        token = await self._accounts.token(planned.author)
        try:
            answer = await self._client.call(Action.PUBLISH, "POST", "/posts", body, token=token)
            post_id = _id_of(answer.body, self._client)
        except NotDone as error:
            if not error.refused:
                self.uncertain.add(planned.author)
            raise
        author = self._accounts.users[planned.author].name
        self.published[number] = PublishedPost(post_id, number + 1, author, planned)

    async def react(self, planned: PlannedReaction) -> None:
        """Send a user's moves on a post, if it was published, and check each response."""
        post = self.published.get(planned.post)
        if post is None:
            return
        before = None
        for move in planned.moves:
            token = await self._accounts.token(planned.user)
            try:
                answer = await self._send(post, move, token)
            except NotDone as error:
                if not error.refused:
                    post.opinions[planned.user] = frozenset({before, move.opinion})
                raise
            post.opinions[planned.user] = frozenset({move.opinion})
            self._findings.judge(Check.REACTIONS, *_faults_of_answer(post, move, answer))
            before = move.opinion

    async def check_post(self, number: int) -> None:
        """Read a post as one of the users, and check all of it."""
        try:
            post = self.published[number]
            reader = next(iter(post.opinions), post.planned.author)
            token = await self._accounts.token(reader)
            record = (await self._client.call(Action.READ, "GET", f"/posts/{post.id}", token=token)).body
        except (KeyError, Failed):
            self._findings.skip(Check.POSTS)
            self._findings.skip(Check.COUNTS)
            return
        as_written = () if post.is_shown_by(record) else (f"{post} differs from the text that was sent",)
        self._findings.judge(Check.POSTS, *as_written)
        self._findings.judge(Check.COUNTS, *_faults_of_counts(post, record, post.opinions.get(reader, NONE)))

    def authors(self) -> list[int]:
        """Return the users who have posts."""
        return sorted({post.planned.author for post in self.published.values()})

    async def _send(self, post: PublishedPost, move: Move, token: str) -> Response:
        if move is Move.WITHDRAW:
            return await self._client.call(Action.REACT, "DELETE", f"/posts/{post.id}/reaction", token=token)
        return await self._client.call(Action.REACT, "PUT", f"/posts/{post.id}/{move}", token=token)


def _id_of(published: JsonObject, client: MeasuredClient) -> str:
    try:
        return parse_id(published.text("id"))
    except (NotSealpost, WrongUsage):
        raise client.malformed(Action.PUBLISH) from None


def _faults_of_answer(post: PublishedPost, move: Move, answer: Response) -> list[str]:
    faults = []
    if answer.body.get("mine", "") != move.opinion:
        faults.append(f"{post}: the response to a {move} has another reaction")
    if move.opinion and not _number(answer.body, f"{move.opinion}s"):
        faults.append(f"{post}: the response to a {move} does not count it")
    return faults


def _faults_of_counts(post: PublishedPost, record: JsonObject, mine: Opinions) -> list[str]:
    faults = []
    for opinion in (Move.LIKE, Move.DISLIKE):
        possible, count = post.bounds(opinion), _number(record, f"{opinion}s")
        if count not in possible:
            least, most = possible[0], possible[-1]
            made = str(least) if least == most else f"{least} to {most}"
            faults.append(f"{post} has {made} {opinion}s, but the server counts {'none' if count is None else count}")
    if record.get("mine", "") not in mine:
        faults.append(f"{post}: the reader's own reaction is shown incorrectly")
    return faults


def _number(record: JsonObject, name: str) -> int | None:
    value = record.get(name)
    return value if type(value) is int else None
