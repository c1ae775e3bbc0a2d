"""In which order rows are admitted, and which of them wait for another's answer (decision 013)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.rows import ChatPrompt, Prompt, Sampling

_PLACES = 512
"""As many as most engines run at once, since rows may be arranged before there is an engine."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row asks of the engine; None where it has no usable prompt or sampling.

    Of rows that ask the same, one with the lowest `rank` leads.
    """

    row: int
    prompt: str = ""
    sampling: Sampling | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Rows to admit, in this order, and the rows that wait for one of them, or for one that is
    done or on trial already."""

    order: Sequence[int] = ()
    waiting: Mapping[int, list[int]] = field(default_factory=dict)


def text_of(prompt: Prompt) -> str:
    """A prompt as one text: equal prompts have equal texts, and a shared beginning is shared."""
    if isinstance(prompt, ChatPrompt):
        # Characters that stand in no text of theirs part roles, contents and messages.
        turns = (f"{message['role']}\x00{message['content']}" for message in prompt.messages)
        return "\x01" + "\x01".join(turns)
    return prompt.text


def arrange(asked: Iterable[Asked], leads: int, places: int = _PLACES) -> Arrangement:
    """The rows of one stretch of a shard. Those of a rank below `leads` may be waited for, but are
    not admitted: they are done, or are admitted otherwise. `places` is how many run at once."""
    groups: dict[object, list[Asked]] = {}
    for one in asked:
        # What is refused, or drawn by chance, is alike to nothing but itself.
        alike = one.sampling is not None and one.sampling.is_repeatable
        key = (one.prompt, one.sampling) if alike else one.row
        groups.setdefault(key, []).append(one)
    leaders: list[Asked] = []
    waiting: dict[int, list[int]] = {}
    for group in groups.values():
        leader = min(group, key=lambda one: one.rank)
        followers = [one.row for one in group if one is not leader and one.rank >= leads]
        if followers:
            waiting[leader.row] = followers
        if leader.rank >= leads:
            leaders.append(leader)
    return Arrangement(_ordered(leaders, places), waiting)


def _ordered(rows: list[Asked], places: int) -> list[int]:
    closing = _closing(rows, places)
    rows.sort(key=lambda one: (one.row in closing, -closing.get(one.row, 0), one.prompt))
    return [one.row for one in rows]


def _closing(rows: Sequence[Asked], places: int) -> dict[int, int]:
    """The rows to hold back for the end, and the class of length of each."""
    longest = max((_length(one) for one in rows), default=0)
    short = sorted((one for one in rows if 2 * _length(one) <= longest), key=_length)
    closing: dict[int, int] = {}
    room = places * longest
    for one in short:
        room -= _length(one)
        if room < 0:
            break
        closing[one.row] = _length(one).bit_length()
    return closing


def _length(one: Asked) -> int:
    """The longest answer it may get, in tokens; what is refused gets none."""
    return 0 if one.sampling is None else one.sampling.max_tokens
