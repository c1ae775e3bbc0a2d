"""In which order rows are admitted, and which of them wait for another's answer (decision 013)."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

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
    stretch = _Stretch()
    for one in asked:
        stretch.add(one)
    in_order = sorted(range(len(stretch.rows)), key=stretch.prompts.__getitem__)
    leaders: list[int] = []
    waiting: dict[int, list[int]] = {}
    for group in stretch.alike(in_order):
        leader, *others = sorted(group, key=stretch.ranks.__getitem__)
        followers = [stretch.rows[one] for one in others if stretch.ranks[one] >= leads]
        if followers:
            waiting[stretch.rows[leader]] = followers
        if stretch.ranks[leader] >= leads:
            leaders.append(leader)
    closing = _closing(leaders, stretch.lengths, places)
    early = [stretch.rows[one] for one in leaders if one not in closing]
    late = [one for one in leaders if one in closing]
    late.sort(key=closing.__getitem__, reverse=True)
    return Arrangement([*early, *(stretch.rows[one] for one in late)], waiting)


class _Stretch:
    """What is asked, as columns: there may be many, and all are held at once."""

    def __init__(self) -> None:
        self.rows = array("q")
        self.ranks = bytearray()
        self.lengths = array("q")
        self.prompts: list[str] = []
        self._samplings: list[Sampling | None] = []

    def add(self, one: Asked) -> None:
        self.rows.append(one.row)
        self.ranks.append(one.rank)
        # The longest answer it may get; what is refused gets none.
        self.lengths.append(0 if one.sampling is None else one.sampling.max_tokens)
        self.prompts.append(one.prompt)
        self._samplings.append(one.sampling)

    def alike(self, in_order: Iterable[int]) -> Iterator[list[int]]:
        """Groups that ask the same, of places that come in the order of their prompts."""
        for _, run in groupby(in_order, key=self.prompts.__getitem__):
            groups: dict[object, list[int]] = {}
            for place in run:
                sampling = self._samplings[place]
                # What is refused, or drawn by chance, is alike to nothing but itself.
                repeats = sampling is not None and sampling.is_repeatable
                groups.setdefault(sampling if repeats else place, []).append(place)
            yield from groups.values()


def _closing(places_of_rows: Sequence[int], lengths: Sequence[int], places: int) -> dict[int, int]:
    """The rows to hold back for the end, and the class of length of each."""
    longest = max((lengths[one] for one in places_of_rows), default=0)
    short = [one for one in places_of_rows if 2 * lengths[one] <= longest]
    room = places * longest
    closing: dict[int, int] = {}
    for one in sorted(short, key=lengths.__getitem__):
        room -= lengths[one]
        if room < 0:
            break
        closing[one] = lengths[one].bit_length()
    return closing
