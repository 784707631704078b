"""The files that browsers, crawlers and security researchers look for at fixed addresses."""

from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import hdrs, web

from ..api.routing import Route
from ..errors import NotFound
from ..settings import Settings
from .assets import Assets, media_type
from .branding import ICON, LOGO_POLICY, Brand

ICON_CACHING = "public, max-age=86400"
"""1 day: unlike the other files of the page, the icon may change under its path."""
TEXT = "text/plain; charset=utf-8"
NO_ROBOTS = "User-agent: *\nDisallow: /\n"
VALIDITY = timedelta(days=30)
"""RFC 9116 recommends less than a year. Each response starts a new period, because the settings are current."""


class SiteFiles:
    """Serves the icon, ``robots.txt`` and ``security.txt``."""

    def __init__(self, settings: Settings, assets: Assets, brand: Brand, tag: str) -> None:
        self._contacts = settings.security_contacts
        self._icon = brand.assets.files[brand.logo] if brand.logo else assets.files[ICON]
        self._icon_type = media_type(brand.logo or ICON)
        self._tag = tag

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/favicon.ico",
                tag=self._tag,
                summary="Icon of the page",
                handler=self.icon,
                text=self._icon_type,
                needs_database=False,
            ),
            Route(
                method="GET",
                path="/robots.txt",
                tag=self._tag,
                summary="Ask crawlers to index nothing",
                handler=self.robots,
                text=TEXT,
                needs_database=False,
            ),
            Route(
                method="GET",
                path="/.well-known/security.txt",
                tag=self._tag,
                summary="Contact for reports of vulnerabilities",
                description="RFC 9116. 404 unless the operator has set SEALPOST_SECURITY_CONTACT.",
                handler=self.security,
                text=TEXT,
                needs_database=False,
                problems=(NotFound,),
            ),
        ]

    async def icon(self, _: web.Request, __: None) -> web.Response:
        """Return the icon."""
        headers = {
            hdrs.CONTENT_TYPE: self._icon_type,
            hdrs.CACHE_CONTROL: ICON_CACHING,
            "Content-Security-Policy": LOGO_POLICY,
        }
        return web.Response(body=self._icon, headers=headers)

    async def robots(self, _: web.Request, __: None) -> str:
        """Return the rules for crawlers."""
        return NO_ROBOTS

    async def security(self, _: web.Request, __: None) -> str:
        """Return the contacts of the operator. Raises `NotFound` without any."""
        if not self._contacts:
            raise NotFound
        expires = datetime.now(UTC) + VALIDITY
        lines = [*(f"Contact: {contact}" for contact in self._contacts), f"Expires: {expires:%Y-%m-%dT%H:%M:%SZ}"]
        return "\n".join([*lines, ""])
