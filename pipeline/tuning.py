"""Measures ways of speculating on a sample of a job's rows, on engines that are loaded in turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeAlias

from pipeline.core.errors import EngineDied, EngineFailed, EngineRefused, RowRejected, in_a_line
from pipeline.core.ports import Clock, Engine, Speculating
from pipeline.core.rows import Completion, FinishedRow, Prompt, Request, Sampling
from pipeline.core.speculation import Agreement, Trial
from pipeline.job import without_folder
from pipeline.job_speculative import SpeculativeSpec
from pipeline.near_ties import answers, can_be_told, generate, is_near_tie

log = logging.getLogger("spotmill")

_HOPELESS = 0.8
"""A first pair below this is not measured again."""
_JUDGED = 8
Answers: TypeAlias = Mapping[str, Completion | RowRejected]
Load: TypeAlias = Callable[[SpeculativeSpec], Engine]


@dataclass(frozen=True, slots=True)
class SampleRow:
    prompt: Prompt
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Measured:
    """`tokens_per_second` is without speculation, in an engine that was loaded without."""

    rows: int
    rejected: int
    tokens_per_second: float
    trials: tuple[Trial, ...]


@dataclass(slots=True)
class _Pass:
    answers: Answers
    rate: float
    decoded: int
    proposed: int
    accepted: int


@dataclass(slots=True)
class _Tuner:
    """Rows are dealt into slices: the first to warm up with, the others for a pair each. So no row
    is drafted twice, which a suffix tree that remembers answers would win by."""

    load: Load
    clock: Clock
    pairs: int
    slices: list[list[Request]] = field(default_factory=list)
    plain: dict[str, Completion | RowRejected] = field(default_factory=dict)
    plain_rates: list[float] = field(default_factory=list)

    @property
    def requests(self) -> list[Request]:
        return [one for part in self.slices for one in part]

    def measure_plain(self, rows: Sequence[SampleRow]) -> int:
        """Rows that the engine refuses, which then are in no trial."""
        engine = self.load(SpeculativeSpec(method="none"))
        try:
            asked = _requests(engine, rows)
            self.slices = [asked[n :: self.pairs + 1] for n in range(self.pairs + 1)]
            for part in self.slices:
                found = self.one_pass(engine, part)
                self.plain |= found.answers
                self.plain_rates.append(found.rate)
        finally:
            engine.close()
        self.slices = [
            [one for one in part if isinstance(self.plain[one.id], Completion)]
            for part in self.slices
        ]
        return len(rows) - len(self.requests)

    def one_pass(self, engine: Engine, requests: Sequence[Request]) -> _Pass:
        if isinstance(engine, Speculating):
            engine.forget_prefixes()
        before, began = engine.metrics(), self.clock.now()
        found = generate(engine, requests)
        seconds, after = self.clock.now() - began, engine.metrics()
        decoded = sum(len(one.token_ids) for one in found.values() if isinstance(one, Completion))
        return _Pass(
            found,
            max(decoded, 1) / max(seconds, 1e-9),
            decoded,
            after.draft_proposed - before.draft_proposed,
            after.draft_accepted - before.draft_accepted,
        )

    def try_depths(
        self, settings: SpeculativeSpec, depths: Sequence[int]
    ) -> list[tuple[Trial, Answers]]:
        """One engine for all depths of a method, where its depth can be changed."""
        deepest = settings.model_copy(update={"num_speculative_tokens": max(depths)})
        log.info("tune: loading %s", _name(deepest))
        try:
            engine = self.load(deepest)
        except (EngineFailed, EngineRefused) as problem:
            log.warning("tune: %s: %s", _name(deepest), in_a_line(problem))
            return [
                (Trial(_settings(deepest), problem=in_a_line(problem)), {}),
            ]
        try:
            switches = isinstance(engine, Speculating) and engine.draft_depth > 0
            self.one_pass(engine, self.slices[0])
            if switches:
                return [self._paired(engine, deepest, depth) for depth in depths]
            found = [self._beside_plain(engine, deepest)]
        except EngineDied as death:
            return [(Trial(_settings(deepest), problem=in_a_line(death)), {})]
        finally:
            engine.close()
        rest = [depth for depth in depths if depth != max(depths)]
        return found + (self.try_depths(settings, rest) if rest else [])

    def _paired(
        self, engine: Engine, deepest: SpeculativeSpec, depth: int
    ) -> tuple[Trial, Answers]:
        settings = deepest.model_copy(update={"num_speculative_tokens": depth})
        ratios: list[float] = []
        drafting: list[_Pass] = []
        for number, part in enumerate(self.slices[1:]):
            passes: dict[int, _Pass] = {}
            for one in (depth, 0) if number % 2 else (0, depth):
                assert isinstance(engine, Speculating)  # noqa: S101 - asked before
                engine.speculate(one)
                passes[one] = self.one_pass(engine, part)
            drafting.append(passes[depth])
            ratios.append(passes[depth].rate / passes[0].rate)
            log.info("tune: %s: %.3f of the speed without", _name(settings), ratios[-1])
            if ratios[0] < _HOPELESS:
                break
        return _trial(settings, ratios, drafting)

    def _beside_plain(self, engine: Engine, settings: SpeculativeSpec) -> tuple[Trial, Answers]:
        drafting = [self.one_pass(engine, part) for part in self.slices[1:]]
        ratios = [one.rate / rate for one, rate in zip(drafting, self.plain_rates[1:], strict=True)]
        return _trial(settings, ratios, drafting)

    def judge(self, tried: Sequence[tuple[Trial, Answers]]) -> list[Trial]:
        """The trials with their agreement: a plain engine is asked where answers part."""
        engine: Engine | None = None
        judged: list[Trial] = []
        try:
            for trial, given in tried:
                parting = [] if trial.problem else self._parting(given)
                if parting and engine is None:
                    engine = self.load(SpeculativeSpec(method="none"))
                agreement = self._agreement(engine, given, parting)
                judged.append(replace(trial, agreement=agreement))
        finally:
            if engine is not None:
                engine.close()
        return judged

    def _parting(self, given: Answers) -> list[Request]:
        return [one for one in self._greedy(given) if not _same(given[one.id], self.plain[one.id])]

    def _greedy(self, given: Answers) -> list[Request]:
        asked = (one for one in self.requests if one.id in given)
        return [one for one in asked if one.sampling.temperature == 0.0]

    def _agreement(
        self, engine: Engine | None, given: Answers, parting: Sequence[Request]
    ) -> Agreement:
        greedy = len(self._greedy(given))
        counts = {"same": greedy - len(parting), "sampled": len(given) - greedy}
        asked = 0
        for request in parting if engine is not None else ():
            answer = given[request.id]
            if not isinstance(answer, Completion):
                verdict = "differing"
            elif not can_be_told(request.sampling):
                verdict = "untold"
            elif asked == _JUDGED:
                verdict = "unjudged"
            else:
                asked += 1
                assert engine is not None  # noqa: S101 - the loop is empty without one
                verdict = _verdict(engine, request, answer)
            counts[verdict] = counts.get(verdict, 0) + 1
        return Agreement(**counts)


def measure(
    load: Load,
    rows: Sequence[SampleRow],
    candidates: Sequence[tuple[SpeculativeSpec, Sequence[int]]],
    clock: Clock,
    pairs: int = 3,
) -> Measured:
    """Every candidate, at every depth that stands beside it, on these rows.

    It takes `pairs` + 1 rows at least, and several windows of them to mean something. A candidate
    that cannot be loaded, or dies, is a trial with a `problem`. Raises what loading
    raises for the engine without speculation.
    """
    tuner = _Tuner(load, clock, pairs)
    rejected = tuner.measure_plain(rows)
    tried: list[tuple[Trial, Answers]] = []
    if all(tuner.slices):
        for settings, depths in candidates:
            # What remembers answers would know them at the next depth.
            groups = [[depth] for depth in depths] if settings.method == "suffix" else [depths]
            for group in groups:
                tried += tuner.try_depths(settings, group)
    return Measured(len(rows), rejected, median(tuner.plain_rates), tuple(tuner.judge(tried)))


def _requests(engine: Engine, rows: Sequence[SampleRow]) -> list[Request]:
    found: list[Request] = []
    for number, row in enumerate(rows):
        with suppress(RowRejected):
            found.append(Request(f"tune-{number}", engine.encode(row.prompt), row.sampling))
    return found


def _trial(
    settings: SpeculativeSpec, ratios: Sequence[float], passes: Sequence[_Pass]
) -> tuple[Trial, Answers]:
    trial = Trial(
        _settings(settings),
        tuple(ratios),
        median(one.rate for one in passes),
        sum(one.decoded for one in passes),
        sum(one.proposed for one in passes),
        sum(one.accepted for one in passes),
    )
    return trial, {name: one for part in passes for name, one in part.answers.items()}


def _settings(spec: SpeculativeSpec) -> dict[str, object]:
    # Where this machine keeps a draft model is nobody else's business.
    return spec.with_models(without_folder).settings()


def _name(spec: SpeculativeSpec) -> str:
    limited = " limited by batch size" if spec.num_speculative_tokens_per_batch_size else ""
    return f"{spec.method} {spec.num_speculative_tokens} deep{limited}"


def _same(given: Completion | RowRejected, plain: Completion | RowRejected) -> bool:
    if isinstance(given, Completion) and isinstance(plain, Completion):
        return (given.token_ids, given.finish_reason) == (plain.token_ids, plain.finish_reason)
    return isinstance(given, RowRejected) and isinstance(plain, RowRejected)


def _verdict(engine: Engine, request: Request, answer: Completion) -> str:
    said = FinishedRow(
        0,
        completion=answer.text,
        finish_reason=answer.finish_reason,
        completion_tokens=len(answer.token_ids),
    )
    # In other company, a batch's arithmetic rounds otherwise.
    alone = generate(engine, [request])[request.id]
    if isinstance(alone, RowRejected):
        return "differing"
    if answers(alone, said):
        return "same"
    return "near_ties" if is_near_tie(engine, request, said, alone) else "differing"
