"""The answer to the creation of an upload."""

from datetime import datetime

from pydantic import Field

from ..api.schema import Answer


class UploadCreated(Answer):
    """A new upload."""

    upload: str = Field(description="The key of the upload, 43 characters: the last part of the URL in `Location`.")
    expires_at: datetime = Field(description="When the upload is deleted unless a secret uses it.")
