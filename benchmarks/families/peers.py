"""Peers on the same rows, model, sampling and machine, in turn with spotmill."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import child, peer_environment, processes
from benchmarks.child import ChildFailed
from benchmarks.figure import Failure, Record, Target, spread
from benchmarks.processes import WholeRun
from benchmarks.setting import CONTEXT, Setting
from benchmarks.workload import Rows, ticket_rows

_IN_FLIGHT = 512
_SAME_TOKENS = 0.02


@dataclass(frozen=True, slots=True)
class Peer:
    """`how` are the settings it is given, in words."""

    script: str
    title: str
    how: str


PEERS = (
    Peer(
        "run_batch",
        "vllm run-batch",
        "all requests at once, as it does; chat requests, whose template passes the text through",
    ),
    Peer(
        "ray_data",
        "Ray Data LLM",
        "one replica, batches of 64 rows, 8 at once; templates and tokenizing left to vLLM",
    ),
    Peer(
        "datatrove_runner",
        "datatrove InferenceRunner",
        "512 requests at once over HTTP to its own `vllm serve`, a checkpoint every 50th of the "
        "rows; its server's readiness asked every 0.5 s",
    ),
)


def measure(setting: Setting) -> Iterator[Record]:
    try:
        python = peer_environment.ready(setting)
    except (peer_environment.PeersMissing, ChildFailed) as problem:
        yield Failure("peers", str(problem))
        return
    count = setting.rows(300, 3_000, 10_000)
    with tempfile.TemporaryDirectory() as name:
        rows = ticket_rows(Path(name), count)
        pairs: dict[str, list[tuple[WholeRun, WholeRun]]] = {}
        for n in range(setting.of_size(1, 1, 3)):
            mine = processes.job(setting, rows.job_file(setting, f"ours-{n}"))
            for peer in PEERS:
                try:
                    other = _peer(setting, python, peer, rows, f"{peer.script}-{n}")
                    _check(peer, other, mine)
                except (ChildFailed, ValueError) as problem:
                    yield Failure(f"peers.{peer.script}", str(problem))
                else:
                    pairs.setdefault(peer.script, []).append((mine, other))
        for peer in PEERS:
            if found := pairs.get(peer.script):
                yield from _figures(peer, found, count)


def _figures(peer: Peer, pairs: list[tuple[WholeRun, WholeRun]], count: int) -> Iterator[Record]:
    yield spread(
        f"peers.{peer.script}",
        f"spotmill / {peer.title}, process start to end",
        [mine.rate / other.rate for mine, other in pairs],
        f"output tokens a second of {count} rows, {pairs[0][0].wall_seconds:.1f} s / "
        f"{pairs[0][1].wall_seconds:.1f} s; {peer.how}",
        target=Target(1.0),
    )
    if all(other.generate_seconds for _, other in pairs):
        yield spread(
            f"peers.{peer.script}-generating",
            f"spotmill / {peer.title}, generating alone",
            [mine.generate_rate / other.generate_rate for mine, other in pairs],
            "output tokens a second from its first request to its last answer, against the seconds "
            "in which spotmill's engine had requests",
            target=Target(1.0),
        )


def _peer(setting: Setting, python: Path, peer: Peer, rows: Rows, name: str) -> WholeRun:
    folder = rows.folder / name
    folder.mkdir()
    spec = {
        "model": setting.model,
        "engine": {"max_model_len": CONTEXT, "seed": 0, **setting.engine()},
        "rows": rows.documents(),
        "folder": str(folder),
        "in_flight": _IN_FLIGHT,
        "on_gpu": setting.device == "cuda",
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    ended = child.run(
        [python, "-m", f"benchmarks.peers.{peer.script}", folder / "spec.json"],
        peer_environment.variables(setting, python),
        seconds=900,
    )
    told = ended.document()
    return WholeRun(
        told["rows"],
        told["output_tokens"],
        ended.wall_seconds,
        0.0,
        told["generate_seconds"] or 0.0,
    )


def _check(peer: Peer, other: WholeRun, mine: WholeRun) -> None:
    """Raises `ValueError` when they did not do the same work."""
    if other.rows != mine.rows:
        raise ValueError(f"{peer.title} answered {other.rows} rows, spotmill {mine.rows}")
    if abs(other.tokens / mine.tokens - 1) > _SAME_TOKENS:
        raise ValueError(f"{peer.title} made {other.tokens} tokens, spotmill {mine.tokens}")
