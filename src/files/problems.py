"""Errors of uploads."""

from ..errors import Conflict, Malformed, NotFound, Problem


class UploadNotFound(NotFound):
    """There is no upload with this key: it never existed, was deleted, became part of a secret, or has expired."""

    code, default = "upload_not_found", "Upload not found"


class OffsetConflict(Conflict):
    """The upload has another offset, or another request has begun to write to it."""

    code, default = (
        "offset_conflict",
        "The upload has another offset, or another request writes to it. Ask for its offset with HEAD.",
    )


class ChecksumMismatch(Problem):
    """The body does not have the checksum in ``Upload-Checksum``; nothing of it was stored."""

    status, code, title = 460, "checksum_mismatch", "Checksum mismatch"
    default = "The body does not match Upload-Checksum. Nothing of it was stored; send it again."


class UnsupportedVersion(Problem):
    """The client speaks another version of the protocol."""

    status, code, title = 412, "unsupported_version", "Unsupported version"
    default = "This version of the tus protocol is not supported. The header Tus-Version has the supported one."


class UnsupportedChecksum(Malformed):
    """The checksum in ``Upload-Checksum`` cannot be verified."""

    code = "unsupported_checksum"
    default = "Upload-Checksum must be sha1 or sha256, a space, and the digest in base64."

    def __init__(self) -> None:
        super().__init__(self.default)
