"""Generates a sample of published rows again: the part of a proof that no ledger can give."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pipeline.core.errors import InputChanged, InputInvalid, JobInvalid, ObjectDamaged, RowRejected
from pipeline.core.ports import Engine, InputSource
from pipeline.core.rows import Completion, FinishedRow, Prompt, Request, Sampling
from pipeline.core.shards import Shard
from pipeline.ledger import Ledger
from pipeline.near_ties import answers, can_be_told, generate, is_near_tie

_SHOWN = 40
_UNTOLD_SHARE = 0.1
"""Of the sample, how many may differ without anybody being able to say why."""

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SampledRow:
    """A published answer that is greedy, and what it answers: None is what nobody can be asked."""

    shard_id: int
    prompt: Prompt | None
    sampling: Sampling
    said: FinishedRow

    @property
    def name(self) -> str:
        return f"{self.shard_id}-{self.said.row}"


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a row that was generated again parts from what is published."""

    shard_id: int
    row: int
    what: str
    character: int | None = None
    published: str = ""
    generated: str = ""

    def __str__(self) -> str:
        if self.character is None:
            return f"shard {self.shard_id:05d}, row {self.row}: {self.what}"
        return (
            f"shard {self.shard_id:05d}, row {self.row}: {self.what} at character "
            f"{self.character}: {self.published!r} is published, {self.generated!r} is generated"
        )

    def to_json(self) -> Json:
        return {
            "shard_id": self.shard_id,
            "row": self.row,
            "what": self.what,
            "character": self.character,
            "published": self.published,
            "generated": self.generated,
        }


@dataclass(slots=True)
class DeepVerdict:
    """Of the rows sampled, those generated alike, those that part at a near-tie of the model, those
    of which that cannot be told, and those that are not what this model answers."""

    seed: int
    same: int = 0
    near_ties: list[Difference] = field(default_factory=list)
    untold: list[Difference] = field(default_factory=list)
    differing: list[Difference] = field(default_factory=list)

    @property
    def sampled(self) -> int:
        return self.same + len(self.near_ties) + len(self.untold) + len(self.differing)

    @property
    def problems(self) -> list[str]:
        """A row that differs is one; rows of which it cannot be told are when they are many."""
        many = len(self.untold) > _UNTOLD_SHARE * self.sampled
        told = [*self.differing, *(self.untold if many else ())]
        return [f"generated again, {difference}" for difference in told]

    def to_json(self) -> Json:
        note = None if self.sampled else "no row of this job is greedy: nothing to compare"
        return {
            "seed": self.seed,
            "sampled": self.sampled,
            "same": self.same,
            "near_ties": [difference.to_json() for difference in self.near_ties],
            "untold": [difference.to_json() for difference in self.untold],
            "differing": [difference.to_json() for difference in self.differing],
            "note": note,
        }


def regenerate(engine: Engine, sample: Sequence[SampledRow], seed: int) -> DeepVerdict:
    """Ask the engine for every sampled row again, and for one that comes out otherwise, alone."""
    verdict = DeepVerdict(seed)
    requests: dict[str, Request] = {}
    for one in sample:
        try:
            requests[one.name] = _request(engine, one)
        except RowRejected as problem:
            verdict.differing.append(
                _difference(one, f"it is answered, and refused now: {problem}")
            )
    again = generate(engine, list(requests.values()))
    for one in sample:
        if request := requests.get(one.name):
            _judge(engine, one, request, again[one.name], verdict)
    return verdict


def _request(engine: Engine, one: SampledRow) -> Request:
    if one.prompt is None:
        raise RowRejected("the input holds no usable prompt or sampling for it")
    return Request(one.name, engine.encode(one.prompt), one.sampling)


def _judge(
    engine: Engine,
    one: SampledRow,
    request: Request,
    again: Completion | RowRejected,
    verdict: DeepVerdict,
) -> None:
    prompt_tokens = len(request.prompt_token_ids)
    if one.said.prompt_tokens != prompt_tokens:
        what = f"its prompt has {prompt_tokens} tokens, {one.said.prompt_tokens} are published"
        verdict.differing.append(_difference(one, what))
        return
    if not answers(again, one.said):
        # In other company, a batch's arithmetic rounds otherwise.
        again = generate(engine, [request])[one.name]
    if isinstance(again, RowRejected):
        what = f"it is answered, and refused now: {again}"
        verdict.differing.append(_difference(one, what))
    elif answers(again, one.said):
        verdict.same += 1
    elif not can_be_told(one.sampling):
        verdict.untold.append(_parting(one, again))
    elif is_near_tie(engine, request, one.said, again):
        verdict.near_ties.append(_parting(one, again))
    else:
        verdict.differing.append(_parting(one, again))


def _difference(one: SampledRow, what: str) -> Difference:
    return Difference(one.shard_id, one.said.row, what)


def _parting(one: SampledRow, again: Completion) -> Difference:
    said = one.said.completion or ""
    if said == again.text:
        is_, was = (again.finish_reason, len(again.token_ids)), one.said
        return _difference(
            one,
            f"it ends with {is_[0]!r} after {is_[1]} tokens, published are "
            f"{was.finish_reason!r} and {was.completion_tokens}",
        )
    pairs = enumerate(zip(said, again.text, strict=False))
    shorter = min(len(said), len(again.text))
    at = next((place for place, (one_, other) in pairs if one_ != other), shorter)
    parted = (text[at : at + _SHOWN] for text in (said, again.text))
    return Difference(one.shard_id, one.said.row, "it parts", at, *parted)


def draw_sample(
    ledger: Ledger, shards: Sequence[Shard], source: InputSource, rows: int, seed: int
) -> list[SampledRow]:
    """Up to `rows` greedy answers, as evenly from the shards as there are any; the same for a seed.

    Shards that cannot be read are passed over: `problems` tells of them.
    """
    dice = random.Random(seed)  # noqa: S311 - a sample, not a secret
    piles: list[list[SampledRow]] = []
    for shard in dice.sample(shards, len(shards)):
        if pile := _greedy_rows(ledger, shard, source, rows, dice):
            piles.append(pile)
        if len(piles) >= rows:
            break
    drawn: list[SampledRow] = []
    while piles and len(drawn) < rows:
        piles = [pile for pile in piles if pile]
        drawn += [pile.pop() for pile in piles[: rows - len(drawn)]]
    return sorted(drawn, key=lambda one: (one.shard_id, one.said.row))


def _greedy_rows(
    ledger: Ledger, shard: Shard, source: InputSource, most: int, dice: random.Random
) -> list[SampledRow]:
    try:
        part = ledger.part(shard.id)
        published = [] if part is None else ledger.rows_of_part(part)
        given = source.open(shard)
    except (ObjectDamaged, InputChanged, InputInvalid, JobInvalid):
        return []
    found: list[SampledRow] = []
    for said in dice.sample(published, len(published)):
        if said.completion is None or said.row >= given.rows or len(found) == most:
            continue
        try:
            sampling = given.sampling(said.row)
            if sampling.temperature == 0.0:
                found.append(SampledRow(shard.id, given.prompt(said.row), sampling, said))
        except RowRejected:
            found.append(SampledRow(shard.id, None, Sampling(), said))
    return found
