"""The query of the address to which the provider sends the browser back."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from ...api.schema import QueryParameters

LONGEST = 4096

Text = Annotated[str, StringConstraints(max_length=LONGEST)]


class Callback(QueryParameters):
    """The provider's answer. Providers add parameters of their own, which are ignored."""

    model_config = ConfigDict(extra="ignore")

    state: Text = Field("", description="The state of the sign-in, as sent to the provider.")
    code: Text = Field("", description="The code that the provider exchanges for the user's identity.")
    error: Text = Field("", description="Why the provider did not sign the user in, instead of a code.")
    iss: Text | None = Field(None, description="The issuer (RFC 9207).")
