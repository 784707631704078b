"""Items that cannot be read though they should: counted, and said in the log."""

import structlog

from ..core.metrics import Counter
from ..errors import Damaged, Unavailable

log = structlog.get_logger(__name__)


class Damage:
    """Reports items that cannot be read; ``damaged`` counts them."""

    def __init__(self, damaged: Counter) -> None:
        self._damaged = damaged

    def changed(self, item_id: bytes) -> Damaged:
        """Report an item that was changed in the database, and return what to raise."""
        self._damaged.inc()
        log.error("an item does not open: it was changed in the database", item_id=item_id.hex())
        return Damaged()

    def without_key(self, item_id: bytes) -> Unavailable:
        """Report an item that was sealed with a key that is not in the ring, and return what to raise.

        The item is whole, and opens once the operator has put the key back.
        """
        self._damaged.inc()
        log.error("the key that an item was sealed with is not in the ring", item_id=item_id.hex())
        return Unavailable("The server lacks the key that this was sealed with. Its operator can put the key back.")
