"""The menu of ``gather``: identify, authenticate and send, one step at a time."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from ..addresses import parse_username
from ..blocking_api import BlockingApi, connect, read_server_url, server_url
from ..durations import in_words
from ..environment import PASSWORD, TOKEN, read_variable
from ..errors import ClientError, InputEnded, Interrupted, NotText
from ..options import Shared
from ..output import Output, say
from ..policy import Resend
from ..prompts import ask, ask_twice
from ..responses import Response
from .batches import MOST_LINES, Part, count_lines
from .delivery import NEVER_TAKEN
from .session import SenderSession, Step

COMMANDS = ("identify", "authenticate", "send", "user", "server", "logout", "quit")
CHOICE = "1 identify  2 authenticate  3 send  4 switch user  5 switch server  6 log out  7 quit  ? help"
HELP = "help"
EXPLAINED = {
    Step.GROUNDED: "The server does not know you. Next: identify with your username.",
    Step.IDENTIFIED: "The server knows your username. Next: authenticate with your password.",
    Step.AUTHENTICATED: "You have a token. Next: send. Logging out makes you grounded again.",
}
INSTEAD = "use --user and --follow"
NEXT = {Step.GROUNDED: "identify", Step.IDENTIFIED: "authenticate"}
WORDS = {
    "incorrect_password": "wrong password",
    "out_of_order": "out of order: the server says you are not authenticated. Identify again",
    "other_address": "your IP address has changed since you authenticated. Identify again",
    "invalid_token": "your token has expired or was revoked. Identify again",
}


def run_menu(shared: Shared, username: str | None) -> None:
    """Run the menu until the user quits. Raises `Interrupted` for Ctrl-C at the menu."""
    url: str | None = server_url(shared)
    while url is not None:
        at_server = replace(shared, url=url)
        with connect(at_server) as server:
            menu = Menu(at_server, server, username)
            url = menu.run()
            username = menu.username


class Menu:
    """The menu for one server; ``username`` is the sender, or None."""

    def __init__(self, shared: Shared, server: BlockingApi, username: str | None) -> None:
        self._shared, self._server = shared, server
        self._output: Output = shared.output
        self._session = SenderSession(
            server.api.transport, api_token=read_variable(TOKEN), resend=Resend.ALWAYS  # safe for each of its requests
        )
        self.username = username
        self._is_new = self._is_wrong = False
        self._unsent: Part | None = None
        self._following: str | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "identify": self._identify,
            "authenticate": self._authenticate,
            "send": self._send,
            "user": self._switch_user,
            "server": self._switch_server,
            "logout": self._log_out,
        }

    def run(self) -> str | None:
        """Run commands; return the server to switch to, or None to quit."""
        while self._following is None:
            self._show()
            try:
                command, rest = _choose(ask("What next", instead=INSTEAD))
                if command == "quit":
                    return None
                if command == HELP:
                    self._explain()
                elif command is None:
                    say("no such choice: type a number or a word from the menu")
                else:
                    self._do(command, rest)
            except InputEnded:
                return None
            except NotText as error:
                say(str(error))
        return self._following

    def _do(self, command: str, rest: str) -> None:
        """Run a command and report any error."""
        try:
            self._commands[command](rest)
        except Interrupted:
            say("cancelled")
        except KeyboardInterrupt:
            say("interrupted before the server answered")
            self._tell_unsent(command)
        except ClientError as error:
            say(str(error))
            self._tell_unsent(command)

    def _show(self) -> None:
        session = self._session
        if session.step is Step.AUTHENTICATED and not session.may_send:
            session.ground()
            say("your token has expired, so you are grounded; tokens are valid for 10 minutes")
        who = f"{self.username or 'no user'} at {self._server.url}: "
        if session.api_token is not None:
            who = f"at {self._server.url}: "
            state = f"API token from {TOKEN}, no sign-in needed"
        elif session.step is Step.AUTHENTICATED:
            state = f"{_since(session)}, token valid for {in_words(session.seconds_left)}"
        elif session.step is Step.IDENTIFIED:
            state = _since(session)
        else:
            state = session.step.value
        self._output.line("")
        self._output.heading(who + state)
        self._output.line(CHOICE)

    def _explain(self) -> None:
        width = max(len(step.value) for step in Step)
        for step, words in EXPLAINED.items():
            self._output.line(f"{step.value:<{width}}  {words}")

    def _identify(self, rest: str) -> None:
        if self._needs_no_steps():
            return
        self._become(parse_username(rest.strip() or self.username or ask("Username", instead=INSTEAD)))
        answer = self._server.run(self._session.identify(str(self.username)))
        self._check(answer)
        self._is_new = answer.status == HTTPStatus.CREATED
        self._output.line(
            f"{self.username} is new: authenticate with a password of your choice"
            if self._is_new
            else f"{self.username} exists: authenticate with its password"
        )

    def _authenticate(self, _: str) -> None:
        if self._needs_no_steps() or self._is_out_of_order(Step.IDENTIFIED, Step.AUTHENTICATED):
            return
        password = None if self._is_wrong else read_variable(PASSWORD)
        if password is None:
            prompt = f"Password of {self.username}"
            password = (
                ask_twice(prompt, instead=f"set {PASSWORD}")
                if self._is_new
                else ask(prompt, hidden=True, instead=f"set {PASSWORD}")
            )
        answer = self._server.run(self._session.authenticate(password))
        # Do not retry a wrong password from the environment.
        self._is_wrong = answer.code == "incorrect_password"
        self._check(answer)
        self._is_new = False
        self._output.line("password set" if answer.status == HTTPStatus.CREATED else "password correct")

    def _send(self, rest: str) -> None:
        if self._session.api_token is None and self._is_out_of_order(Step.AUTHENTICATED):
            return
        if self._unsent is not None:
            self._output.line(f"sending {_count(self._unsent)} kept from before")
            self._send_part(self._unsent)
        lines = [rest] if rest else _ask_lines()
        if lines:
            self._send_part(Part(uuid.uuid4().hex, tuple(lines)))
        else:
            say("nothing to send")

    def _send_part(self, part: Part) -> None:
        self._unsent = part
        answer = self._server.run(self._session.send(part))
        if answer.ok or answer.code in NEVER_TAKEN:
            self._unsent = None
        self._check(answer)
        first, last = answer.body.number("first_sequence"), answer.body.number("last_sequence")
        self._output.line(f"stored as message {first}" if first == last else f"stored as messages {first} to {last}")

    def _switch_user(self, rest: str) -> None:
        if not self._needs_no_steps():
            self._become(parse_username(rest.strip() or ask("Username", instead=INSTEAD)))
            self._session.ground()

    def _switch_server(self, rest: str) -> None:
        url = read_server_url(rest.strip() or ask("Server", instead=INSTEAD))
        with connect(replace(self._shared, url=url)):
            # Only checks the URL and the options; nothing is sent.
            self._following = url

    def _log_out(self, _: str) -> None:
        if self._needs_no_steps() or self._is_out_of_order(Step.AUTHENTICATED):
            return
        self._check(self._server.run(self._session.end()))
        self._output.line("logged out")

    def _become(self, username: str) -> None:
        if self._unsent is not None and username != self.username:
            say(f"{_count(self._unsent)} of {self.username} may not have been stored, and will not be sent again")
            self._unsent = None
        self.username = username

    def _needs_no_steps(self) -> bool:
        if self._session.api_token is not None:
            say(f"{TOKEN} is set, so no sign-in is needed: send right away, or unset it")
        return self._session.api_token is not None

    def _is_out_of_order(self, *steps: Step) -> bool:
        if self._session.step in steps:
            return False
        say(f"out of order: {NEXT[self._session.step]} first")
        return True

    def _check(self, answer: Response) -> None:
        """Raise `ClientError` for an error, with a text that fits the menu."""
        if answer.code in WORDS:
            raise ClientError(WORDS[answer.code])
        answer.checked()

    def _tell_unsent(self, command: str) -> None:
        if command == "send" and self._unsent is not None:
            say(f"{_count(self._unsent)} kept: the next `send` sends them first; they are not stored twice")


def _choose(typed: str) -> tuple[str | None, str]:
    """Return the command for a number, a name or a prefix of it, and its argument."""
    typed = typed.lstrip().removeprefix("switch ")
    word, _, rest = ("logout", "", "") if typed.startswith("log out") else typed.partition(" ")
    if word.isdecimal():
        found = COMMANDS[int(word) - 1 : int(word)] if word != "0" else ()
    elif word == "?":
        found = (HELP,)
    else:
        found = tuple(name for name in (*COMMANDS, HELP) if word and name.startswith(word.lower()))
    return (found[0] if found else None), rest


def _ask_lines() -> list[str]:
    """Return lines up to an empty one or Ctrl-D."""
    say("finish with an empty line")
    lines: list[str] = []
    try:
        while len(lines) < MOST_LINES and (line := ask(f"Line {len(lines) + 1}", instead=INSTEAD)):
            lines.append(line)
    except InputEnded:
        pass
    return lines


def _since(session: SenderSession) -> str:
    return f"{session.step.value} since {session.since.astimezone():%H:%M:%S}"


def _count(part: Part) -> str:
    return count_lines(len(part.messages))
