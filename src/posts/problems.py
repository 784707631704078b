"""Errors of posts."""

from ..errors import Forbidden, NotFound


class PostNotFound(NotFound):
    """The post never existed, was deleted or has expired."""

    code, default = (
        "post_not_found",
        "There is no such post, or it was deleted or has expired. GET /posts lists all posts.",
    )


class NotAuthor(Forbidden):
    """Only the author of a post and operators may do this."""

    code, default = "not_author", "Only the author of a post and operators may delete it."
