"""The whole job against bare `LLM.generate`: 8 shards, 50 chunks, answers of 8 to 128 tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks import processes
from benchmarks.figure import Failure, Record, Target, ratios, spread
from benchmarks.lent import Answered, LentEngine, lend
from benchmarks.setting import Setting
from benchmarks.workload import Rows, ticket_rows


def measure(setting: Setting) -> Iterator[Record]:
    count = setting.rows(400, 1_200, 6_000)
    with tempfile.TemporaryDirectory() as name:
        rows = replace(ticket_rows(Path(name), count), exact=True)
        # Processes first, since the engine that is lent then stays in memory.
        yield from _from_start_to_end(setting, rows, setting.of_size(1, 2, 3))
        yield from _on_one_engine(setting, rows, setting.of_size(2, 8, 8))


def _on_one_engine(setting: Setting, rows: Rows, pairs: int) -> Iterator[Record]:
    lent = lend(setting)
    _warm(lent, setting, rows)
    ours: list[Answered] = []
    bare: list[Answered] = []
    for n in range(pairs):
        job = rows.job_file(setting, f"pair-{n}")
        if n % 2:
            ours.append(lent.worker(job, f"pair-{n}"))
        bare.append(lent.bare(rows))
        if not n % 2:
            ours.append(lent.worker(job, f"pair-{n}"))
    lengths = f"answers of exactly 8 to 128 tokens by row, {bare[0].tokens / bare[0].rows:.0f} each"
    yield spread(
        "whole-job.end-to-end",
        "whole job, engine loaded / bare `LLM.generate`",
        ratios([run.rate for run in ours], [run.rate for run in bare]),
        f"output tokens a second of {len(rows.texts)} rows, {lengths}; from the loaded engine to "
        f"the worker's last beat: claims, reading, {ours[0].checkpoints} checkpoints, 8 "
        "publications and the tail included; bare's tokenizing included",
        target=Target(0.97),
    )
    yield spread(
        "whole-job.engine-running",
        "the same, engine running",
        ratios([run.engine_rate for run in ours], [run.engine_rate for run in bare]),
        "only the seconds in which the worker's engine had requests, against all of bare's call",
    )
    yield _steady(ours, bare, lent.capacity)
    yield spread(
        "whole-job.processor",
        "the same, by processor time",
        ratios([run.thrift for run in ours], [run.thrift for run in bare]),
        "output tokens a second of processor time of the process, which others on its cores "
        "disturb less; waiting is not seen",
    )
    yield spread(
        "whole-job.tokens",
        "tokens of the two",
        ratios([run.tokens for run in ours], [run.tokens for run in bare]),
        "output tokens, the worker's / bare's: in bf16 near-ties may fall differently in other "
        "batches",
    )
    yield spread(
        "whole-job.bare-rate",
        "bare `LLM.generate`",
        [run.rate for run in bare],
        "this machine, this hour: do not compare with other days",
        unit="tokens/s",
    )


def _steady(ours: list[Answered], bare: list[Answered], capacity: int) -> Record:
    key = "whole-job.steady"
    pairs = [(mine.full_rate, other.full_rate) for mine, other in zip(ours, bare, strict=True)]
    both = [(mine, other) for mine, other in pairs if mine is not None and other is not None]
    if not both:
        return Failure(key, f"no two steps of either had {capacity} requests: too few rows")
    return spread(
        key,
        "steady state",
        ratios([mine for mine, _ in both], [other for _, other in both]),
        f"output tokens a second from the first to the last engine step with at least {capacity} "
        "requests at hand, by the same rule on both sides; bare's tokenizing is over by then, a "
        "worker's is not",
        target=Target(0.99),
    )


def _warm(lent: LentEngine, setting: Setting, rows: Rows) -> None:
    lent.bare(rows)
    lent.worker(rows.job_file(setting, "warm"), "warm")


def _from_start_to_end(setting: Setting, rows: Rows, pairs: int) -> Iterator[Record]:
    ours, bare = [], []
    file = rows.as_json()
    for n in range(pairs):
        if n % 2:
            ours.append(processes.job(setting, rows.job_file(setting, f"whole-{n}")))
        bare.append(processes.bare(setting, file, setting.llm_arguments())[0])
        if not n % 2:
            ours.append(processes.job(setting, rows.job_file(setting, f"whole-{n}")))
    yield spread(
        "whole-job.process",
        "whole job / bare, process start to end",
        ratios([run.rate for run in ours], [run.rate for run in bare]),
        f"output tokens a second of {len(rows.texts)} rows; start-up of the supervisor and of the "
        "worker, and finishing the books included",
    )
