"""Runs of libFuzzer over one target, and what they amount to."""

import hashlib
import json
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.fuzz.samples import words
from tests.fuzz.targets import TARGETS

SECONDS_AN_INPUT: Final = 5
MEMORY_MIB: Final = 512
"""A process that needs more, fuzzer included, is a finding: inputs are a few kibibytes."""

_STATUS = re.compile(r"^#(\d+)\s.*?cov: (\d+)", re.MULTILINE)
_INTERRUPTED = "libFuzzer: run interrupted"
_STATISTIC = re.compile(r"^stat::(\w+):\s+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What one campaign did; numbers are libFuzzer's own, added up over its processes.

    Args:
        target: key of `TARGETS`.
        executions: inputs run.
        seconds: wall time.
        edges: branches of the instrumented modules that were reached; the most of any process.
        findings: inputs that crashed, hung or took too much memory, as file names.
        slowest_seconds: the slowest input, in whole seconds.
        peak_rss_mib: memory of the largest process.
        corpus: inputs kept for the next time.
    """

    target: str
    executions: int
    seconds: float
    edges: int
    findings: tuple[str, ...]
    slowest_seconds: int
    peak_rss_mib: int
    corpus: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible form."""
        return asdict(self) | {"per_second": round(self.executions / self.seconds)}

    def as_text(self) -> str:
        """One line for people."""
        return (
            f"{self.target:<13} {self.executions:>12,} executions  {self.executions / self.seconds:>7,.0f}/s  "
            f"{self.edges:>4} edges  corpus {self.corpus:>5}  slowest {self.slowest_seconds} s  "
            f"peak {self.peak_rss_mib} MiB  {len(self.findings)} findings"
        )


def run(target: str, folder: Path, *, runs: int, seconds: int, jobs: int) -> Summary:
    """Fuzz one target, starting from the corpus that earlier campaigns left in `folder`.

    Args:
        target: key of `TARGETS`.
        folder: gets corpus, findings and logs; nothing of it is removed.
        runs: executions, shared by the processes.
        seconds: when to stop before that.
        jobs: processes; they exchange what they find through the corpus.
    """
    corpus, findings = folder / target / "corpus", folder / target / "findings"
    for directory in (corpus, findings):
        directory.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[target].seeds():
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    dictionary = folder / "words.dict"
    dictionary.write_text("".join(f"{json.dumps(word.encode().decode('latin-1'))}\n" for word in _plain_words()))
    options = [
        f"-runs={-(-runs // jobs)}",
        f"-max_total_time={seconds}",
        f"-max_len={TARGETS[target].max_length}",
        f"-timeout={SECONDS_AN_INPUT}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={findings}/",
        f"-dict={dictionary}",
        "-print_final_stats=1",
        "-reload=1",
    ]
    before = time.monotonic()
    logs = [_log(folder / target) for _ in range(jobs)]
    processes = [_start([target, *options, str(corpus)], log) for log in logs]
    try:
        codes = [process.wait() for process in processes]
    finally:
        for process in processes:
            process.terminate()
    taken = time.monotonic() - before
    texts = [log.read_text(errors="replace") for log in logs]
    found = sorted(path.name for path in findings.iterdir() if path.stat().st_mtime >= time.time() - taken - 1)
    failed = [
        f"exit code {code}, see {log}"
        for code, log, text in zip(codes, logs, texts, strict=True)
        if code and _INTERRUPTED not in text
    ]
    statistics = [dict(_STATISTIC.findall(text)) for text in texts]
    statuses = [_STATUS.findall(text) for text in texts]
    return Summary(
        target=target,
        executions=sum(
            int(statistic.get("number_of_executed_units", status[-1][0] if status else 0))
            for statistic, status in zip(statistics, statuses, strict=True)
        ),
        seconds=taken,
        edges=max((int(status[-1][1]) for status in statuses if status), default=0),
        findings=tuple(found or failed),
        slowest_seconds=max(int(statistic.get("slowest_unit_time_sec", 0)) for statistic in statistics),
        peak_rss_mib=max(int(statistic.get("peak_rss_mb", 0)) for statistic in statistics),
        corpus=sum(1 for _ in corpus.iterdir()),
    )


def _plain_words() -> list[str]:
    """The words that libFuzzer's dictionary can hold as they are."""
    return [word for word in words() if word and word.isascii() and word.isprintable()]


def _log(folder: Path) -> Path:
    """A log file of a new name: the earlier ones are evidence."""
    log = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{len(list(folder.glob('*.log')))}.log"
    log.touch()
    return log


def _start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", *arguments], stdout=stream, stderr=subprocess.STDOUT
        )
