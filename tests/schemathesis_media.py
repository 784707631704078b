"""The media type of uploads for schemathesis, which loads this module itself (see `test_openapi`)."""

from typing import Any

import schemathesis

from src.files.routes import MEDIA_TYPE


@schemathesis.serializer(MEDIA_TYPE)
def serialize(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Return the content to send."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
