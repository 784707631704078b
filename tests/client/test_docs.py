"""The documentation of the client says what it does."""

from src.client.environment import VARIABLES
from src.settings import OF_THE_CLIENT, Settings


def test_the_variables_of_the_client_are_no_settings() -> None:
    """A server passes over each of them, and has none of that name itself."""
    assert OF_THE_CLIENT == set(VARIABLES)
    assert set() == {name.removeprefix("SEALPOST_").lower() for name in VARIABLES} & set(Settings.model_fields)
