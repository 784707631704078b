"""`make bench-files`: rate and memory of uploads and downloads, and the cost of deleting abandoned uploads.

First, curl uploads a large file over TLS and downloads it again, through the stack and with a plain nginx that stores
the same bytes, in turns; then many files at once. Then many expired uploads are put into the database of another stack,
and secrets are created and opened before, while and after MongoDB deletes them. Prints the rates and their ratios in
this run, and writes them to ``bench/results/``. The exit code is 1 if bytes differ, a response was wrong, or a target
was missed.
"""

import argparse
import hashlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from src.core.tls.certificates import self_signed_files

from .expiry import CREATING, OPENING, ExpiryResult, measure_expiry
from .machine import has_programs, write_result
from .plain_nginx import plain_nginx
from .processor_time import memory
from .running_stack import RunningStack, running_stack
from .transfers import MIB, FilesApi, download, upload_to_nginx, upload_to_stack

AT_ONCE = 20
MOST_GROWTH_MIB, MOST_GROWTH_EACH_MIB = 16.0, 4.0
"""Of a worker's memory, and in addition for each transfer at the same time: a few chunks of 1 MiB."""
LEAST_MIB, LEAST_UPLOADS, LEAST_SECONDS = 64, 10_000, 3
"""Minimum for a verdict; a shorter run checks only the responses."""


@dataclass(frozen=True)
class TransferResult:
    """Rates in MiB per second of one round: of all transfers at the same time together.

    ``growth_mib`` is the most that the peak memory of a worker exceeded its memory before. ``share_seconds`` is the
    time that a secret with all of the uploads takes to create.
    """

    at_once: int
    upload: float
    download: float
    plain_upload: float
    plain_download: float
    growth_mib: float
    share_seconds: float

    @property
    def ratios(self) -> tuple[float, float]:
        """The rates of upload and download in relation to those of a plain nginx."""
        return round(self.upload / self.plain_upload, 3), round(self.download / self.plain_download, 3)


class TransferBench:
    """A stack and a plain nginx with the same certificate."""

    def __init__(self, running: RunningStack, plain_url: str, certificate: Path, directory: Path) -> None:
        self._running = running
        self._url = running.tls_url or ""
        self._plain_url = plain_url
        self._certificate = certificate
        self._directory = directory

    def measure(self, mib: int, at_once: int) -> TransferResult:
        """Upload and download a file of this size, and print the rates. Raises `WrongAnswerError` if bytes differ."""
        file = self._directory / "file"
        digest = _write_random(file, mib)
        api = FilesApi(self._url, self._certificate)
        workers = {pid: memory(pid, "VmRSS") for pid in self._running.worker_pids()}
        for pid in workers:
            Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # proc(5): resets the peak
        plain_upload = upload_to_nginx(self._plain_url, self._certificate, file, at_once)
        uploads = api.create_uploads(at_once, file.stat().st_size)
        upload = upload_to_stack(self._url, self._certificate, file, uploads)
        outputs = [self._directory / f"output-{number}" for number in range(at_once)]
        plain_urls = [f"{self._plain_url}/{number}" for number in range(at_once)]
        plain_download = download(self._certificate, plain_urls, outputs)
        opened = api.open(uploads)
        rate = download(self._certificate, opened.urls, outputs, opened.header)
        for output in outputs:
            with output.open("rb") as content:
                if hashlib.file_digest(content, "sha256").digest() != digest:
                    raise ValueError("a download differs from its upload")
            output.unlink()
        growth = max(memory(pid, "VmHWM") - before for pid, before in workers.items()) / MIB
        result = TransferResult(
            at_once, *(round(each, 1) for each in (upload, rate, plain_upload, plain_download, growth, opened.seconds))
        )
        print(
            f"{at_once:>3} of {mib:>5} MiB{upload:>12.1f}{plain_upload:>12.1f}{result.ratios[0]:>8.3f}"
            f"{rate:>12.1f}{plain_download:>12.1f}{result.ratios[1]:>8.3f}{growth:>12.1f}"
            f"{opened.seconds:>9.1f}",
            flush=True,
        )
        return result


def measure_transfers(directory: Path, mib: int, rounds: int) -> list[TransferResult]:
    """Measure one transfer at a time, and many, in each round."""
    data_dir = directory / "data"
    environment = {
        "SEALPOST_RATE_LIMITS": "off",
        "SEALPOST_TLS": "self-signed",
        "SEALPOST_FILE_MAX": str(mib * MIB),
    }
    with ExitStack() as stack:
        running = stack.enter_context(
            running_stack(data_dir=data_dir, log_dir=directory / "logs", environment=environment)
        )
        certificate, key = self_signed_files(data_dir)
        plain_url = stack.enter_context(plain_nginx(directory / "plain", certificate, key))
        bench = TransferBench(running, plain_url, certificate, directory)
        bench.measure(1, AT_ONCE)  # warms up
        print("warm-up finished; the measurements follow")
        sizes = {1: mib, AT_ONCE: max(1, mib // AT_ONCE)}
        return [bench.measure(sizes[at_once], at_once) for _ in range(rounds) for at_once in sizes]


def _write_random(path: Path, mib: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(mib):
            file.write(piece)
            digest.update(piece)
    return digest.digest()


def _pieces(mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield os.urandom(MIB)


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.files", description="Measure transfers of files.")
    parser.add_argument("--mib", type=int, default=256, help="size of the large file in MiB (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds of transfers (default 3)")
    parser.add_argument("--uploads", type=int, default=20_000, help="number of abandoned uploads (default 20000)")
    parser.add_argument("--seconds", type=int, default=5, help="duration of each measurement with wrk (default 5)")
    options = parser.parse_args()
    if not has_programs("nginx", "curl", "wrk"):
        return 2
    print(
        ("{:<16}" + "{:>12}{:>12}{:>8}" * 2 + "{:>12}{:>9}").format(
            "MiB per second", "upload", "plain", "ratio", "download", "plain", "ratio", "growth MiB", "share s"
        )
    )
    with tempfile.TemporaryDirectory(prefix="sealpost-bench-") as directory:
        transfers = measure_transfers(Path(directory), options.mib, options.rounds)
        expiry = measure_expiry(Path(directory), options.uploads, options.seconds)
    return _judge(options, transfers, expiry)


def _judge(options: argparse.Namespace, transfers: list[TransferResult], expiry: ExpiryResult) -> int:
    """Print each target and whether it was met, write the results, and return the exit code."""
    for at_once in (1, AT_ONCE):
        ratios = [result.ratios for result in transfers if result.at_once == at_once]
        upload, fetched = (statistics.median(each) for each in zip(*ratios, strict=True))
        print(f"{at_once} at once, over TLS, to plain nginx: upload {upload:.3f}, download {fetched:.3f}")
    created = next(figure for figure in expiry.figures if figure.name.endswith(CREATING)).per_second
    long_enough = {
        f"memory of a worker: at most {MOST_GROWTH_MIB:.0f} MiB more, and {MOST_GROWTH_EACH_MIB:.0f} per transfer": all(
            result.growth_mib <= MOST_GROWTH_MIB + MOST_GROWTH_EACH_MIB * result.at_once for result in transfers
        ),
        f"deleted: {expiry.deleted_per_second:,.0f} documents per second under load, target: more than the"
        f" {created:,.0f} secrets created per second": expiry.deleted_per_second > created,
    }
    targets = {f"{expiry.errors} wrong responses, target: 0": expiry.errors == 0}
    enough = options.mib >= LEAST_MIB and options.uploads >= LEAST_UPLOADS and options.seconds >= LEAST_SECONDS
    if enough:
        targets |= long_enough
    else:
        print("\n".join(f"too short for a verdict: {target}" for target in long_enough))
    print(
        f"{expiry.documents:,} documents were deleted in {expiry.seconds_until_gone} s; ratios meanwhile:"
        f" {CREATING} {expiry.creating_ratio:.2f}, {OPENING} {expiry.opening_ratio:.2f}"
    )
    if not expiry.left:
        print("all documents were deleted before the end of these measurements: for a true ratio, increase UPLOADS")
    print("\n".join(f"{'met' if is_met else 'MISSED':>8}  {target}" for target, is_met in targets.items()))
    write_result(
        {
            "mib": options.mib,
            "transfers": [{**asdict(result), "ratios": result.ratios} for result in transfers],
            "expiry": expiry.to_document(),
        },
        "files-",
    )
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
