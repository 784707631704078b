"""Requests and answers of the passkey routes."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from ...api.schema import Answer, RequestBody, example
from ..schemas import COOKIE, GivenPassword

LONGEST_CHALLENGE = 2048

Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
GivenChallenge = Annotated[str, StringConstraints(max_length=LONGEST_CHALLENGE)]
_CREDENTIAL: dict[str, Any] = {"id": "$CREDENTIAL_ID", "rawId": "$CREDENTIAL_ID", "type": "public-key", "response": {}}


class AskForPasskey(RequestBody):
    """The password, as proof."""

    model_config = example({"password": "correct horse battery staple"})

    password: GivenPassword | None = Field(
        None, description="The password, as proof; not required if the session started in the last 10 minutes."
    )


class PasskeyOptions(Answer):
    """Options for the browser, and the challenge that they contain."""

    challenge: str = Field(description="Identifies the options in the next request; valid once, for 5 minutes.")
    options: dict[str, Any] = Field(description="The options for the browser, as JSON of Web Authentication.")


class AddPasskey(RequestBody):
    """The passkey that the browser has created."""

    model_config = example({"challenge": "$CHALLENGE", "name": "My laptop", "credential": _CREDENTIAL})

    challenge: GivenChallenge = Field(description="The `challenge` in the response to POST /passkeys/options.")
    name: Name = Field(description="A label that tells you which device it is.")
    credential: dict[str, Any] = Field(
        description="The result of the browser, as PublicKeyCredential.toJSON() returns it."
    )


class RenamePasskey(RequestBody):
    """A new label."""

    model_config = example({"name": "My old laptop"})

    name: Name = Field(description="The new label.")


class DeletePasskey(RequestBody):
    """The password, as proof."""

    model_config = example({"password": "correct horse battery staple"})

    password: GivenPassword | None = Field(None, description="The password, as proof; required if the account has one.")


class PasskeyAnswer(Answer):
    """A passkey, without its keys."""

    id: str = Field(description="32 hexadecimal digits, used to rename and delete the passkey.")
    name: str = Field(description="The label.")
    created_at: datetime = Field(description="When the passkey was added.")
    last_used_at: datetime | None = Field(description="When it last signed in; null if it has not.")


class PasskeyList(Answer):
    """The caller's passkeys, newest first."""

    passkeys: list[PasskeyAnswer] = Field(description="The passkeys.")


class PasskeyLogin(RequestBody):
    """The answer of a passkey to a challenge."""

    model_config = example({"challenge": "$CHALLENGE", "credential": _CREDENTIAL})

    challenge: GivenChallenge = Field(description="The `challenge` in the response to POST /login/passkey/options.")
    credential: dict[str, Any] = Field(
        description="The result of the browser, as PublicKeyCredential.toJSON() returns it."
    )
    cookie: bool = Field(False, description=COOKIE)
