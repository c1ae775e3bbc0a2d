"""Whether a greedy answer that differs is the model's own, rounded otherwise, or not its answer.

Where two next tokens are nearly as likely, the company a request is computed in decides between
them, and the rest of the answer follows. So the published answer is walked along: up to where it
parts, one token is drawn many times at a temperature so low that only a rival of the best token can
come, and from the token that is published, if it comes, the model goes on greedily.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from pipeline.core.errors import RowRejected
from pipeline.core.ports import Engine
from pipeline.core.rows import Completion, FinishedRow, Request, Sampling

TEMPERATURE = 0.1
DRAWS = 32
"""A token that is behind the best one by 0.25 in its logarithm is found by nine of ten such walks,
one that is 0.5 behind by two, and one that is 1.0 behind by two in a thousand."""
PARTINGS = 16
"""So many near-ties are followed in one answer."""


def generate(engine: Engine, requests: Sequence[Request]) -> dict[str, Completion | RowRejected]:
    """Run these to their ends in an engine that has nothing else to do, by request id."""
    waiting, running = deque(requests), 0
    done: dict[str, Completion | RowRejected] = {}
    while waiting or running:
        while waiting and running < engine.window:
            request = waiting.popleft()
            try:
                engine.submit(request)
                running += 1
            except RowRejected as problem:
                done[request.id] = problem
        if running:
            for completion in engine.step():
                done[completion.request_id] = completion
                running -= 1
    return done


def answers(again: Completion | RowRejected, said: FinishedRow) -> bool:
    """Whether this is what was published, its end and its length included."""
    return isinstance(again, Completion) and (
        again.text,
        again.finish_reason,
        len(again.token_ids),
    ) == (said.completion, said.finish_reason, said.completion_tokens)


def can_be_told(sampling: Sampling) -> bool:
    """Whether an answer may be continued from its middle: penalties count what came before."""
    return replace(sampling, stop=()).continues_exactly


def is_near_tie(engine: Engine, request: Request, said: FinishedRow, again: Completion) -> bool:
    """Whether `said`, where it parts from the greedy `again`, is as good as it to this model."""
    walk = _Walk(engine, request, said)
    known: tuple[int, ...] = ()
    room = min(request.sampling.max_tokens, said.completion_tokens)
    for _ in range(PARTINGS):
        step = walk.step_beyond(walk.agreed(known, again.token_ids))
        if step is None or answers(step, said):
            return step is not None
        known = step.token_ids
        if len(known) >= room:
            return False
        again = walk.ask(replace(request, saved=known)) or again
        if answers(again, said):
            return True
    return False


class _Walk:
    """Along one published answer, of which the text is known and the tokens are not."""

    def __init__(self, engine: Engine, request: Request, said: FinishedRow) -> None:
        self._engine = engine
        self._request = request
        self._said = said

    def agreed(self, known: tuple[int, ...], tokens: tuple[int, ...]) -> tuple[int, ...]:
        """The longest beginning of these tokens whose text the published answer begins with; the
        `known` ones are, and behind them they are greedy."""
        kept, least, most = known, len(known), len(tokens) - 1
        while least < most:
            # Only the engine knows the text of tokens: it is asked for one more than it is given.
            middle = (least + most + 1) // 2
            told = self.ask(self._one_more(tokens[: middle - 1]))
            if told is not None and self._is_on_the_way(told):
                kept, least = told.token_ids, middle
            else:
                most = middle - 1
        return kept

    def step_beyond(self, kept: tuple[int, ...]) -> Completion | None:
        """One token more on the way, if a near-tie leads there."""
        if len(kept) >= self._request.sampling.max_tokens:
            return None
        draws = [
            replace(
                self._one_more(kept, temperature=TEMPERATURE, seed=draw),
                id=f"{self._request.id}-{draw}",
            )
            for draw in range(DRAWS)
        ]
        found = generate(self._engine, draws).values()
        told = [one for one in found if isinstance(one, Completion)]
        arrived = [one for one in told if answers(one, self._said)]
        on_the_way = [one for one in told if self._is_on_the_way(one)]
        return max(arrived or on_the_way, key=lambda one: len(one.text), default=None)

    def ask(self, request: Request) -> Completion | None:
        [answer] = generate(self._engine, [request]).values()
        return answer if isinstance(answer, Completion) else None

    def _one_more(
        self, saved: tuple[int, ...], temperature: float = 0.0, seed: int | None = None
    ) -> Request:
        sampling = Sampling(max_tokens=len(saved) + 1, temperature=temperature, seed=seed)
        return replace(self._request, sampling=sampling, saved=saved)

    def _is_on_the_way(self, told: Completion) -> bool:
        # Half a character is shown as U+FFFD until its other bytes have come.
        text = told.text.rstrip("\ufffd")
        goes_on = told.finish_reason == "length"
        return goes_on and (self._said.completion or "").startswith(text)
