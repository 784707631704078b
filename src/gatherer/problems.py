"""What can go wrong between a sender and the gatherer, each with its status and code."""

from ..errors import Conflict, Forbidden


class OutOfOrder(Forbidden):
    """The sender has not identified or authenticated itself from this address, or no longer."""

    code = "out_of_order"
    default = "This comes out of order: POST /identify, then /authenticate, then /message. You begin anew."


class OtherAddress(Forbidden):
    """The token was given to another address."""

    code = "other_address"
    default = "This token was given to another address. POST /identify and /authenticate from this one."


class BatchReused(Conflict):
    """The sender has used the id of a batch for other messages before."""

    code = "batch_reused"
    default = "You have sent other messages under this batch id. Nothing was stored: take another id for these."
