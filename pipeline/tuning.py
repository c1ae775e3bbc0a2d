"""Measures ways of speculating on a sample of a job's rows, on engines that are loaded in turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from pipeline.core.errors import EngineDied, EngineFailed, EngineRefused, RowRejected, in_a_line
from pipeline.core.ports import Clock, Engine, Speculating
from pipeline.core.rows import Completion, FinishedRow, Prompt, Request, Sampling
from pipeline.core.speculation import Agreement, Trial
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
    proposed: int
    accepted: int


@dataclass(slots=True)
class _Tuner:
    load: Load
    clock: Clock
    pairs: int
    requests: list[Request] = field(default_factory=list)
    plain: Answers = field(default_factory=dict)
    plain_rate: float = 0.0

    def measure_plain(self, rows: Sequence[SampleRow]) -> int:
        """Rows that the engine refuses, which then are in no trial."""
        engine = self.load(SpeculativeSpec(method="none"))
        rejected = 0
        try:
            for number, row in enumerate(rows):
                try:
                    tokens = engine.encode(row.prompt)
                except RowRejected:
                    rejected += 1
                    continue
                self.requests.append(Request(f"tune-{number}", tokens, row.sampling))
            # What comes first pays for kernels that are made on the way.
            warm = self.one_pass(engine)
            refused = {name for name, one in warm.answers.items() if isinstance(one, RowRejected)}
            self.requests = [one for one in self.requests if one.id not in refused]
            self.plain = warm.answers
            if self.requests:
                self.plain_rate = max(self.one_pass(engine).rate, warm.rate)
        finally:
            engine.close()
        return rejected + len(refused)

    def one_pass(self, engine: Engine) -> _Pass:
        if isinstance(engine, Speculating):
            engine.forget_prefixes()
        before, began = engine.metrics(), self.clock.now()
        found = generate(engine, self.requests)
        seconds, after = self.clock.now() - began, engine.metrics()
        decoded = sum(len(one.token_ids) for one in found.values() if isinstance(one, Completion))
        return _Pass(
            found,
            decoded / max(seconds, 1e-9),
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
            self.one_pass(engine)
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
        for number in range(self.pairs):
            passes: dict[int, _Pass] = {}
            for one in (depth, 0) if number % 2 else (0, depth):
                assert isinstance(engine, Speculating)  # noqa: S101 - asked before
                engine.speculate(one)
                passes[one] = self.one_pass(engine)
            drafting.append(passes[depth])
            ratios.append(passes[depth].rate / passes[0].rate)
            log.info("tune: %s: %.3f of the speed without", _name(settings), ratios[-1])
            if ratios[0] < _HOPELESS:
                break
        return _trial(settings, ratios, drafting), drafting[0].answers

    def _beside_plain(self, engine: Engine, settings: SpeculativeSpec) -> tuple[Trial, Answers]:
        drafting = [self.one_pass(engine) for _ in range(self.pairs)]
        ratios = [one.rate / self.plain_rate for one in drafting]
        return _trial(settings, ratios, drafting), drafting[0].answers

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
        greedy = [one for one in self.requests if one.sampling.temperature == 0.0]
        return [one for one in greedy if not _same(given.get(one.id), self.plain[one.id])]

    def _agreement(
        self, engine: Engine | None, given: Answers, parting: Sequence[Request]
    ) -> Agreement:
        greedy = sum(one.sampling.temperature == 0.0 for one in self.requests)
        counts = {"same": greedy - len(parting), "sampled": len(self.requests) - greedy}
        asked = 0
        for request in parting if engine is not None else ():
            answer = given.get(request.id)
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

    A candidate that cannot be loaded, or dies, is a trial with a `problem`. Raises what loading
    raises for the engine without speculation.
    """
    tuner = _Tuner(load, clock, pairs)
    rejected = tuner.measure_plain(rows)
    tried: list[tuple[Trial, Answers]] = []
    if tuner.requests:
        for settings, depths in candidates:
            tried += tuner.try_depths(settings, depths)
    return Measured(len(rows), rejected, tuner.plain_rate, tuple(tuner.judge(tried)))


def _trial(settings: SpeculativeSpec, ratios: Sequence[float], passes: Sequence[_Pass]) -> Trial:
    return Trial(
        _settings(settings),
        tuple(ratios),
        max(one.rate for one in passes),
        sum(one.proposed for one in passes),
        sum(one.accepted for one in passes),
    )


def _settings(spec: SpeculativeSpec) -> dict[str, object]:
    return spec.model_dump(mode="json", exclude_none=True, exclude={"candidates"})


def _name(spec: SpeculativeSpec) -> str:
    limited = " limited by batch size" if spec.num_speculative_tokens_per_batch_size else ""
    return f"{spec.method} {spec.num_speculative_tokens} deep{limited}"


def _same(given: Completion | RowRejected | None, plain: Completion | RowRejected) -> bool:
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
