"""Phrases and logins in `make bench`, compared with the functions that make them slow: Argon2id and bcrypt alone."""

import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from src.accounts.passwords import check_password, hash_password
from src.core.crypto.hashing import REFUSAL
from src.core.crypto.sealing import SALT_BYTES, Argon2Cost, derive_phrase_key
from src.settings import Settings

from .latency import measure_latencies, percentile
from .logins import OK, PASSWORD, SERVICE_UNAVAILABLE, Logins, log_in
from .processor_time import processor_time
from .rounds import Rounds, Server
from .scenarios import TEXT, Case, text_of
from .supplies import PHRASE
from .wrk import Load, Measurement, run_wrk

OPEN_PHRASE = Case("open-phrase", 32)
LOGIN = Case("login", 8)
"""With connections that keep every hashing thread busy."""
CROWD = Case("login-crowd", 256)
"""Far more clients than can be served."""
DERIVATIONS_PER_SECOND = 300
WARM_UP = 1.0


def measure_phrases(rounds: Rounds, count: int, server: Server) -> dict[str, float]:
    """Measure openings with a phrase against Argon2id alone, and the latency of `/healthz` meanwhile.

    The two alternate, and each measurement of openings is compared with those of Argon2id right before and after it:
    the speed of Argon2id depends mostly on the other load on this machine's memory.
    """
    seconds = rounds.seconds
    keys = server.supplies.keys(DERIVATIONS_PER_SECOND * seconds * count, text_of(TEXT), PHRASE)
    unused = keys.read_text(encoding="ascii").splitlines()
    alone, opened, p99s = [argon2_alone(seconds)], list[float](), list[float]()
    for number in range(count):
        keys.write_text("\n".join(unused[number::count]) + "\n", encoding="ascii")
        load = Load("POST", "/secrets/", 200, json.dumps({"phrase": PHRASE}), keys, refusal=REFUSAL)
        with ThreadPoolExecutor(1) as pool:
            probing = pool.submit(healthz_p99, server.url, seconds)
            made = run_wrk(server.url, OPEN_PHRASE.scenario, OPEN_PHRASE.connections, load, seconds, pids=server.pids)
            p99s.append(probing.result())
        opened.append(rounds.note(number, OPEN_PHRASE, made).per_second)
        alone.append(argon2_alone(seconds))
    shares = [2 * each / sum(around) for each, around in zip(opened, pairwise(alone), strict=True)]
    return {
        "argon2_alone_per_second": round(statistics.median(alone), 1),
        "opened_per_second": round(statistics.median(opened), 1),
        "share_of_argon2": round(statistics.median(shares), 3),
        "healthz_p99_ms_during_openings": round(max(p99s), 1),
    }


def measure_logins(rounds: Rounds, server: Server) -> dict[str, float]:
    """Measure logins against bcrypt alone, the latency of `/healthz` meanwhile, and the responses under overload."""
    # A login needs 250 ms of one core: twice the time gives twice the samples.
    seconds = 2 * rounds.seconds
    server.supplies.access_token()  # registers the user
    before = bcrypt_alone(seconds)
    with ThreadPoolExecutor(1) as pool:
        probing = pool.submit(healthz_p99, server.url, WARM_UP + seconds)
        used = processor_time(*server.pids)
        served = asyncio.run(log_in(server.url, LOGIN.connections, seconds, WARM_UP))
        p99 = probing.result()
    share = (processor_time(*server.pids) - used).microseconds_each(len(served.attempts))
    alone = (before + bcrypt_alone(seconds)) / 2
    crowd = asyncio.run(log_in(server.url, CROWD.connections, seconds, WARM_UP))
    rounds.note(0, LOGIN, _measurement(LOGIN, served, {OK}, share))
    rounds.note(0, CROWD, _measurement(CROWD, crowd, {OK, SERVICE_UNAVAILABLE}, {}))
    return {
        "bcrypt_alone_per_second": round(alone, 2),
        "logins_per_second": round(served.per_second, 2),
        "share_of_bcrypt": round(served.per_second / alone, 3),
        "healthz_p99_ms_during_logins": round(p99, 1),
        "logins_per_second_of_too_many": round(crowd.per_second, 2),
        "share_of_503_of_too_many": round(len(crowd.milliseconds(SERVICE_UNAVAILABLE)) / len(crowd.attempts), 3),
        "slowest_login_ms_of_too_many": round(max(crowd.milliseconds(OK), default=0.0), 1),
        "slowest_503_ms_of_too_many": round(max(crowd.milliseconds(SERVICE_UNAVAILABLE), default=0.0), 1),
    }


def _measurement(case: Case, logins: Logins, expected: set[int], used: Mapping[str, float]) -> Measurement:
    """Return the logins as a measurement: successes per second, and the latencies of all expected responses."""
    times = logins.milliseconds(*expected)
    broken = sum(attempt.status == 0 for attempt in logins.attempts)
    return Measurement(
        case.scenario,
        case.connections,
        round(logins.per_second, 1),
        round(percentile(times, 0.5), 2),
        round(percentile(times, 0.99), 2),
        logins.other_than(expected) - broken,
        broken,
        len(logins.milliseconds(*expected - {OK})),
        **used,
    )


def healthz_p99(url: str, seconds: float) -> float:
    """Request /healthz 20 times a second on one connection and return the 99th percentile in milliseconds."""
    until = time.monotonic() + seconds
    return measure_latencies(url, "/healthz", 0.05, lambda: time.monotonic() > until).p99_ms


def argon2_alone(seconds: float) -> float:
    """Return the derivations per second on all cores of an otherwise idle machine."""
    settings = Settings(_env_file=None)
    cost = Argon2Cost(settings.argon2_memory_kib, settings.argon2_passes)
    return alone(seconds, lambda: derive_phrase_key(PHRASE, bytes(SALT_BYTES), cost))


def bcrypt_alone(seconds: float) -> float:
    """Return the password checks per second on all cores of an otherwise idle machine."""
    cost = Settings(_env_file=None).bcrypt_cost
    password_hash = hash_password(PASSWORD, cost)
    return alone(seconds, lambda: check_password(PASSWORD, password_hash, cost))


def alone(seconds: float, work: Callable[[], object]) -> float:
    """Return the number of times per second that all cores together complete the work."""
    deadline = time.monotonic() + seconds

    def repeat(_: int) -> float:
        began, count = time.monotonic(), 0
        while time.monotonic() < deadline:
            work()
            count += 1
        return count / (time.monotonic() - began)

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(repeat, range(cores)))
