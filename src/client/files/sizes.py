"""Sizes in bytes, as users read them."""

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def write_size(size: int) -> str:
    """Return a size with at most 1 decimal."""
    if size == 1:
        return "1 byte"
    amount, place = float(size), 0
    while round(amount, 1) >= 1024 and place < len(_UNITS) - 1:  # noqa: PLR2004
        amount, place = amount / 1024, place + 1
    return f"{amount:.1f}".removesuffix(".0") + f" {_UNITS[place]}"


def write_files(number: int, size: int) -> str:
    """Return the number of files and their size."""
    return f"{number} {'file' if number == 1 else 'files'}, {write_size(size)}"
