"""What can go wrong with posts."""

from ..errors import Forbidden, NotFound


class PostNotFound(NotFound):
    """There is no such post, or no longer."""

    code, default = "post_not_found", "There is no such post, or no longer. GET /posts lists those that there are."


class NotAuthor(Forbidden):
    """Only its author may do this to a post."""

    code, default = "not_author", "Only its author may delete a post."
