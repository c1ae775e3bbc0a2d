"""The goodput of replayed fleets, as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.simulation.outcome import Outcome
from tests.simulation.replayed import Realism

_COLUMNS = (
    "trace",
    "losses/node-hour",
    "losses",
    "node-hours",
    "notice",
    "token goodput",
    "time goodput",
    "ceiling",
    "of ceiling",
    "cold start",
    "lost",
    "idle",
    "drain",
    "after drain",
    "drained",
)

_HEAD = """\
# Goodput on recorded spot fleets

Written on {date} by `{command}`. Time is virtual: no figure depends on
the machine, and the same code gives the same figures.

Each node of a trace runs the real worker from its add to its remove: {boot:g} s of boot, {load:g} s
of load, a checkpoint every {chunk:g} s, leases of {lease:g} s, store calls of {latency_ms:g} ms on
average, shards of {shard_minutes:.0f} minutes, rows that continue exactly, and work without end.
Without notice a node is killed at its remove. With notice it is told so long before, and killed at
its remove if it is still there; it is paid for until then in any case.

What flatters these figures: no supervisor and no pool is slow to replace a node (the trace says
when nodes come), the store never fails, and where work never ends nobody has to wait for a dead
node's lease, nor for the last shards of a run. Only where shards are "scarce", there is one more
of them than nodes at once, and each lasts for hours: every later node has to go on with what a
dead one left, waits for its lease, and reads all its checkpoints, one after another.
What does the opposite: nodes that outlive the trace lose what they had not saved at its end, and
a step takes {step:g} s, so that workers see their saves take that long, and keep more back for a
drain than they would with steps of some milliseconds.
"""
_WORDS = """\
- **token goodput**: tokens in a published part or a durable checkpoint at the end, over all tokens
  decoded (DESIGN §2).
- **time goodput**: the seconds those tokens take at the full rate, over the node-seconds paid for.
- **ceiling**: time goodput if nothing but the cold starts of this trace cost a second.
- **lost**: decoded and not saved, or broken off by a kill. **idle**: the engine stood, or ran half
  empty. **drain**: from the last step to the worker's end. **after drain**: from there to the
  node's.
- **drained**: workers that ended by themselves before their node did.

Time goodput, ceiling and the shares are of all node-seconds; the shares and time goodput add up
to 1.
"""


def row(outcome: Outcome) -> str:
    """One line of the table."""
    trace, notice = outcome.trace, outcome.notice_seconds
    cells = (
        trace.name,
        f"{trace.losses_per_node_hour:.3f}",
        f"{trace.losses}",
        f"{trace.node_seconds / 3_600:.1f}",
        "none" if notice is None else f"{notice:.0f} s",
        f"{outcome.token_goodput:.5f}",
        f"{outcome.time_goodput:.5f}",
        f"{outcome.ceiling:.5f}",
        f"{outcome.time_goodput / outcome.ceiling:.5f}",
        *(f"{share:.3%}" for share in outcome.shares().values()),
        f"{outcome.left_by_themselves}",
    )
    return f"| {' | '.join(cells)} |"


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield f"|---|{'---:|' * (len(_COLUMNS) - 1)}"
    yield from map(row, outcomes)


def page(outcomes: Sequence[Outcome], date: str, command: str) -> str:
    """The whole page; `command` is what makes it again."""
    real = Realism()
    head = _HEAD.format(
        date=date,
        command=command,
        boot=real.boot_seconds,
        load=real.load_seconds,
        chunk=real.chunk_seconds,
        lease=real.lease_seconds,
        step=real.step_seconds,
        latency_ms=real.latency_seconds * 1_000,
        shard_minutes=real.shard_seconds / 60,
    )
    return "\n".join((head, *table(outcomes), "", _WORDS))
