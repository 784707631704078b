"""The indexes and sealed collections of all features."""

from .accounts import feature as accounts
from .audit import feature as audit
from .core.database import prerequisites, shared_settings
from .core.database.mongo import Indexes
from .core.database.resealing import Expiring, Resealable
from .files import feature as files
from .gatherer import feature as gatherer
from .posts import feature as posts
from .sealed import feature as sealed

INDEXES: Indexes = {
    **accounts.INDEXES,
    **sealed.INDEXES,
    **files.INDEXES,
    **posts.INDEXES,
    **gatherer.INDEXES,
    **audit.INDEXES,
    **prerequisites.INDEXES,
    **shared_settings.INDEXES,
}
RESEALABLE: tuple[Resealable, ...] = (
    *accounts.RESEALABLE,
    *sealed.RESEALABLE,
    *posts.RESEALABLE,
    *gatherer.RESEALABLE,
    *audit.RESEALABLE,
)
EXPIRING: tuple[Expiring, ...] = (*sealed.EXPIRING, *files.EXPIRING)
