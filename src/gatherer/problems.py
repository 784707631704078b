"""Errors that the gatherer reports to senders."""

from ..errors import Conflict, Forbidden


class OutOfOrder(Forbidden):
    """The sender has not identified or authenticated from this address, or must do so again."""

    code = "out_of_order"
    default = "This request is out of order. Start over: POST /identify, then /authenticate, then /message."


class OtherAddress(Forbidden):
    """The token was issued to another address."""

    code = "other_address"
    default = "This token was issued to another address. POST /identify and /authenticate from this one."


class BatchReused(Conflict):
    """The sender has already used this batch id for other messages."""

    code = "batch_reused"
    default = "You have already used this batch id for other messages. Nothing was stored; use a new id."
