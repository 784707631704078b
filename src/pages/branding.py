"""The operator's branding of the page, from the settings: name, logo, accent color, and footer."""

import re
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from ..settings import Settings, SettingsError
from .assets import Assets
from .markup import Markup, element, markup

LARGEST_LOGO = 64_000
"""Bytes."""
LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
"""The Content-Security-Policy of a logo: an SVG may style itself, but runs and loads nothing."""
ICON = "icon.svg"
ICON_HEIGHT = 28
STYLE = "brand.css"
MINIMUM_CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3."""
LIGHT = {"ground": "#f4f2ee", "paper": "#fffefb", "tint": "#eef1fa"}
DARK = {"ground": "#141517", "paper": "#1c1e22", "tint": "#232a3f"}
"""The backgrounds of `page.css` on which text has the accent color."""
_WHITE, _BLACK = "#ffffff", "#000000"
_STEPS = 100
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE, _PNG_SIZE_END = 16, 24
_SVG_SIZES = ((1, "width"), (2, "height"))
_WIDEST = 160 / ICON_HEIGHT
_SVG = "http://www.w3.org/2000/svg svg"
_LINEAR_BELOW = 0.04045


@dataclass(frozen=True)
class Brand:
    """The branding: ``logo`` is the name of a file in ``assets``, ``colors`` is CSS; both are empty without a setting.

    ``footer`` is text; ``links`` are labels with their URLs. ``icon_width`` is that of the logo, or of the icon of the
    page, in pixels at a height of `ICON_HEIGHT`.
    """

    name: str
    footer: str
    links: Sequence[tuple[str, str]]
    logo: str
    icon_width: int
    colors: str
    assets: Assets

    def icon(self, root: str, assets: Assets) -> str:
        """Return the URL of the logo, or of the icon among the page's own ``assets``."""
        return root + (self.assets.path + self.logo if self.logo else assets.path + ICON)

    def head(self, root: str) -> str:
        """Return the HTML that links the accent color; ``root`` is the relative URL of the root of the service."""
        return f'<link rel="stylesheet" href="{root}{self.assets.path}{STYLE}">' if self.colors else ""

    def footer_html(self) -> str:
        """Return the operator's text and links as HTML."""
        links = Markup(" · ".join(element("a", label, href=url) for label, url in self.links))
        return markup(*(element("p", part) for part in (self.footer, links) if part))


def read_brand(settings: Settings) -> Brand:
    """Read the branding. Raises `SettingsError` for an unusable logo, and an accent that is too light to read."""
    logo, ratio = _read_logo(settings.brand_logo) if settings.brand_logo else ({}, 1.0)
    colors = accent_style(settings.brand_accent) if settings.brand_accent else ""
    files = {**logo, **({STYLE: colors.encode()} if colors else {})}
    return Brand(
        name=settings.brand_name,
        footer=settings.brand_footer,
        links=settings.footer_links,
        logo=next(iter(logo), ""),
        icon_width=round(ICON_HEIGHT * ratio),
        colors=colors,
        assets=Assets.of(files),
    )


def accent_style(accent: str) -> str:
    """Return CSS that sets an accent color ``#rrggbb``, lightened in the dark.

    Raises `SettingsError` if it has too little contrast with the light backgrounds.
    """
    if not _is_readable(accent, LIGHT.values()):
        darker = _shift_until_readable(accent, _BLACK, LIGHT.values())
        raise SettingsError(
            "SEALPOST_BRAND_ACCENT: too light for text on the light background of the page, which needs a contrast of"
            f" {MINIMUM_CONTRAST}:1. Use a darker color, such as {darker}"
        )
    dark = _shift_until_readable(accent, _WHITE, DARK.values())
    return (
        f":root{{--accent:{accent};--on-accent:{_text_on(accent)}}}"
        f"@media (prefers-color-scheme:dark){{:root{{--accent:{dark};--on-accent:{_text_on(dark)}}}}}"
    )


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors ``#rrggbb`` (WCAG 2.2), from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _is_readable(color: str, backgrounds: Collection[str]) -> bool:
    return min(contrast(color, background) for background in backgrounds) >= MINIMUM_CONTRAST


def _shift_until_readable(color: str, end: str, backgrounds: Collection[str]) -> str:
    """Return the first color on the way to ``end``, white or black, that is readable on the backgrounds."""
    mixed = (_mix(color, end, step / _STEPS) for step in range(_STEPS + 1))
    return next(each for each in mixed if _is_readable(each, backgrounds))


def _text_on(color: str) -> str:
    return max(_WHITE, _BLACK, key=lambda text: contrast(text, color))


def _mix(color: str, end: str, share: float) -> str:
    pairs = zip(_channels(color), _channels(end), strict=True)
    return "#" + "".join(f"{round(one + (other - one) * share):02x}" for one, other in pairs)


def _luminance(color: str) -> float:
    """Return the relative luminance (WCAG 2.2), from 0 to 1."""
    linear = [
        channel / 12.92 if channel <= _LINEAR_BELOW else ((channel + 0.055) / 1.055) ** 2.4
        for channel in (value / 255 for value in _channels(color))
    ]
    return sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _channels(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def _read_logo(path: Path) -> tuple[dict[str, bytes], float]:
    """Return the file of a logo by its name in the page, and its aspect ratio. Its content decides the type."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_LOGO + 1)
    except OSError as error:
        raise SettingsError(f"SEALPOST_BRAND_LOGO: cannot be read: {error.strerror}") from None
    if len(content) > LARGEST_LOGO:
        raise SettingsError(f"SEALPOST_BRAND_LOGO: larger than {LARGEST_LOGO // 1000} kB")
    if content.startswith(_PNG):
        width, height = struct.unpack_from(">II", content.ljust(_PNG_SIZE_END), _PNG_SIZE)
        return {"logo.png": content}, _ratio(width, height)
    root = _svg_root(content)
    if root is not None:
        return {"logo.svg": content}, _svg_ratio(root)
    raise SettingsError("SEALPOST_BRAND_LOGO: neither a PNG nor an SVG: an SVG is XML with <svg xmlns=…> at its root")


def _svg_root(content: bytes) -> dict[str, str] | None:
    """Return the attributes of an SVG's root element; None for anything else."""
    elements: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda name, attributes: elements.append((name, attributes))
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, LookupError, ValueError):  # not XML, or in an unknown encoding
        return None
    name, attributes = elements[0]
    return attributes if name == _SVG else None


def _svg_ratio(root: dict[str, str]) -> float:
    sizes = re.fullmatch(r"\S+[\s,]+\S+[\s,]+([\d.]+)[\s,]+([\d.]+)", root.get("viewBox", "").strip())
    try:
        return _ratio(*(float(sizes[index]) if sizes else float(root[name]) for index, name in _SVG_SIZES))
    except (KeyError, ValueError):
        return 1.0


def _ratio(width: float, height: float) -> float:
    """Return an aspect ratio, at most that of the space in the header."""
    return min(width / height, _WIDEST) if width > 0 and height > 0 else 1.0
