"""The indexes and sealed collections of all features."""

from .accounts import feature as accounts
from .audit import feature as audit
from .core.database import limits, prerequisites, shared_settings
from .core.database.mongo import Indexes
from .core.database.resealing import Expiring, Resealable
from .files import feature as files
from .gatherer import feature as gatherer
from .posts import feature as posts
from .sealed import feature as sealed
from .settings import FeatureName, Settings

_ALWAYS: Indexes = {**sealed.INDEXES, **limits.INDEXES, **prerequisites.INDEXES, **shared_settings.INDEXES}
_BY_FEATURE: dict[FeatureName, Indexes] = {
    "accounts": {**accounts.INDEXES, **audit.INDEXES, **sealed.INDEXES_WITH_ACCOUNTS},
    "files": files.INDEXES,
    "posts": posts.INDEXES,
    "gatherer": gatherer.INDEXES,
}
INDEXES: Indexes = {name: models for each in (*_BY_FEATURE.values(), _ALWAYS) for name, models in each.items()}
# Of all features: a feature that is off may have left data, which needs its keys until it expires or is deleted.
RESEALABLE: tuple[Resealable, ...] = (
    *accounts.RESEALABLE,
    *sealed.RESEALABLE,
    *posts.RESEALABLE,
    *gatherer.RESEALABLE,
    *audit.RESEALABLE,
)
EXPIRING: tuple[Expiring, ...] = (*sealed.EXPIRING, *files.EXPIRING)


def needed_indexes(settings: Settings) -> Indexes:
    """Return the indexes of the features that are on."""
    on = (indexes for feature, indexes in _BY_FEATURE.items() if settings.has(feature))
    return {name: models for each in (*on, _ALWAYS) for name, models in each.items()}
