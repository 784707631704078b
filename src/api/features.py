"""What every feature offers to the application."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from .routing import Route


class Feature(ABC):
    """Routes, with the work that they need in the background."""

    @abstractmethod
    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Work in the background until the feature is closed."""
        yield

    async def close(self) -> None:  # noqa: B027 (most features have nothing to close)
        """Wait for the commands in flight."""
