"""Generating rows again: what a model answers is told from what somebody made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.core.errors import RowRejected
from pipeline.core.rows import FinishedRow, Request, Sampling, TextPrompt
from pipeline.deep import DeepVerdict, SampledRow, draw_sample, regenerate
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings
from pipeline.near_ties import generate
from tests.simulation.memory_rows import Row
from tests.simulation.tampering import PART, edit, put, torn
from tests.simulation.wavering import LENGTH, LETTERS, WaveringEngine
from tests.simulation.world import EXACT, RESTARTS, World, small_workload

SAMPLED = Sampling(max_tokens=10, temperature=0.7)
PENALIZED = Sampling(max_tokens=100, presence_penalty=0.5)


def finished(world: World) -> World:
    world.resume()
    world.finish()
    return world


def verdict_of(world: World, rows: int = 32, seed: int = 0) -> DeepVerdict:
    sample = draw_sample(world.ledger, world.shards, world.source, rows, seed)
    # As the world's workers have it.
    engine = ScriptedEngine(ScriptedSettings(window=3, tokens=12), lambda _: None)
    return regenerate(engine, sample, seed)


def changed(text: str, at: int = 3) -> str:
    """One character is another."""
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


# The sample.


def test_a_sample_is_the_greedy_answers_evenly_from_the_shards_and_the_same_for_a_seed() -> None:
    rows = {
        shard: [Row(f"{shard} {row}", (EXACT, SAMPLED, RESTARTS)[row % 3]) for row in range(30)]
        for shard in range(4)
    }
    world = finished(World(rows))

    def drawn(count: int, seed: int = 0) -> list[tuple[int, int]]:
        sample = draw_sample(world.ledger, world.shards, world.source, count, seed)
        return [(one.shard_id, one.said.row) for one in sample]

    assert {shard for shard, _ in drawn(4)} == {0, 1, 2, 3}
    assert [sum(s == shard for s, _ in drawn(10)) for shard in range(4)] in (
        [2, 2, 3, 3], [2, 3, 2, 3], [2, 3, 3, 2], [3, 2, 2, 3], [3, 2, 3, 2], [3, 3, 2, 2],
    )  # fmt: skip
    assert all(row % 3 == 0 for _, row in drawn(40))
    assert len(drawn(1000)) == 40
    assert len(set(drawn(20))) == 20
    assert drawn(10, seed=1) == drawn(10, seed=1) != drawn(10, seed=2)


def test_a_job_of_sampled_rows_has_nothing_to_compare() -> None:
    verdict = verdict_of(finished(World(small_workload(SAMPLED))))
    assert (verdict.sampled, verdict.problems) == (0, [])
    assert verdict.to_json()["note"] == "no row of this job is greedy: nothing to compare"


def test_what_cannot_be_read_is_left_to_the_rest_of_verify() -> None:
    world = finished(World(small_workload(EXACT)))
    torn(PART)(world)
    assert verdict_of(world).sampled == 4
    world.memory.delete(PART)
    assert verdict_of(world).sampled == 4


# A deterministic engine: whatever differs is wrong.


def test_an_untouched_run_comes_out_the_same() -> None:
    verdict = verdict_of(finished(World(small_workload(EXACT))))
    assert (verdict.same, verdict.sampled, verdict.problems) == (10, 10, [])


def test_a_single_character_that_changed_is_found_and_shown() -> None:
    world = finished(World(small_workload(EXACT)))
    answer = world.answers()[0][1].completion
    assert answer is not None
    edit(PART, put("rows", 1, "completion", changed(answer)))(world)
    assert world.problems() == [], "nothing else can tell"
    [problem] = verdict_of(world).problems
    assert problem.startswith("generated again, shard 00000, row 1: it parts at character 3: ")
    assert repr(changed(answer)[3:43]) in problem
    assert repr(answer[3:43]) in problem


@pytest.mark.parametrize(
    ("what", "field", "value"),
    [
        ("it parts at character", "completion", "t1"),
        ("it ends with", "finish_reason", "repetition"),
        ("it ends with", "completion_tokens", 77),
        ("tokens, 77 are published", "prompt_tokens", 77),
    ],
)
def test_every_field_of_an_answer_is_compared(what: str, field: str, value: object) -> None:
    world = finished(World(small_workload(EXACT)))
    edit(PART, put("rows", 1, field, value))(world)
    [problem] = verdict_of(world).problems
    assert problem.startswith("generated again, shard 00000, row 1: ")
    assert what in problem


def test_two_answers_that_changed_places_are_both_found() -> None:
    world = finished(World(small_workload(EXACT)))
    one, other = world.answers()[0][0:2]
    for row, answer in ((0, other), (1, one)):
        for field in ("completion", "finish_reason", "prompt_tokens", "completion_tokens"):
            edit(PART, put("rows", row, field, getattr(answer, field)))(world)
    assert world.problems() == [], "nothing else can tell"
    assert len(verdict_of(world).problems) == 2


def test_an_answer_to_a_row_that_cannot_be_asked_is_none() -> None:
    world = finished(World(small_workload(EXACT)))
    said = {"completion": "t1", "finish_reason": "stop", "error": None, "completion_tokens": 1}
    edit(PART, lambda part: part["rows"][3].update(said))(world)
    [problem] = verdict_of(world).problems
    assert "row 3: it is answered, and refused now: " in problem


def test_answers_of_another_model_are_found() -> None:
    world = finished(World(small_workload(EXACT)))
    sample = draw_sample(world.ledger, world.shards, world.source, 32, 0)
    other = ScriptedEngine(ScriptedSettings(window=3, tokens=11), lambda _: None)
    assert len(regenerate(other, sample, 0).problems) > 5


def test_an_engine_that_refuses_what_was_answered_says_why() -> None:
    world = finished(World(small_workload(EXACT)))
    sample = draw_sample(world.ledger, world.shards, world.source, 32, 0)
    narrow = ScriptedEngine(ScriptedSettings(max_model_len=4), lambda _: None)
    verdict = regenerate(narrow, sample, 0)
    assert len(verdict.differing) == 10
    assert "the window is 4" in verdict.problems[0]


# An engine whose company decides near-ties.


def answered(rows: int, sampling: Sampling, alone: bool = False) -> list[SampledRow]:
    """Rows as one batch of the wavering engine answers them, or each alone."""
    engine = WaveringEngine(steadfast=alone)
    prompts = [TextPrompt(f"prompt {row}") for row in range(rows)]
    requests = [
        Request(f"0-{row}", engine.encode(prompt), sampling) for row, prompt in enumerate(prompts)
    ]
    sample = []
    done = generate(engine, requests)
    for row, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        answer = done[request.id]
        assert not isinstance(answer, RowRejected)
        said = FinishedRow(
            row,
            answer.text,
            answer.finish_reason,
            None,
            len(request.prompt_token_ids),
            len(answer.token_ids),
        )
        sample.append(SampledRow(0, prompt, sampling, said))
    return sample


GREEDY = Sampling(max_tokens=100)


def test_near_ties_that_fell_otherwise_are_told_and_no_problem() -> None:
    """Eight near-ties an answer, of which the published batch took the second best each time."""
    verdict = regenerate(WaveringEngine(steadfast=True), answered(20, GREEDY), 0)
    assert (verdict.differing, verdict.problems) == ([], [])
    assert len(verdict.near_ties) > 15
    assert verdict.same + len(verdict.near_ties) == 20


def test_rows_that_differ_in_company_are_the_same_alone() -> None:
    verdict = regenerate(WaveringEngine(), answered(20, GREEDY, alone=True), 0)
    assert (verdict.same, verdict.near_ties) == (20, [])


@pytest.mark.parametrize("at", [0, 1, 7, 20, LENGTH - 1])
def test_a_changed_character_is_no_near_tie(at: int) -> None:
    """In answers that also have near-ties, before the change and behind it."""
    sample = [
        replace(one, said=replace(one.said, completion=changed(one.said.completion or "", at)))
        for one in answered(20, GREEDY)
    ]
    verdict = regenerate(WaveringEngine(steadfast=True), sample, 0)
    assert len(verdict.differing) == 20


def test_a_letter_that_the_model_might_have_said_is_no_near_tie_either() -> None:
    sample = []
    for one in answered(20, GREEDY, alone=True):
        text = one.said.completion or ""
        letter = LETTERS[(LETTERS.index(text[5]) + 1) % len(LETTERS)]
        other = replace(one.said, completion=text[:5] + letter + text[6:])
        sample.append(replace(one, said=other))
    assert len(regenerate(WaveringEngine(steadfast=True), sample, 0).differing) == 20


def test_answers_that_change_places_are_no_near_ties() -> None:
    sample = answered(20, GREEDY)
    moved = [
        replace(
            one, said=replace(other.said, row=one.said.row, prompt_tokens=one.said.prompt_tokens)
        )
        for one, other in zip(sample, [*sample[1:], sample[0]], strict=True)
    ]
    assert len(regenerate(WaveringEngine(steadfast=True), moved, 0).differing) == 20


def test_where_near_ties_cannot_be_told_many_differences_are_a_problem_and_few_are_not() -> None:
    sample = answered(20, PENALIZED, alone=True)
    few = [
        replace(one, said=replace(one.said, completion=changed(one.said.completion or "")))
        if one.said.row < 2
        else one
        for one in sample
    ]
    verdict = regenerate(WaveringEngine(steadfast=True), few, 0)
    assert (len(verdict.untold), verdict.same, verdict.problems) == (2, 18, [])
    many = regenerate(WaveringEngine(steadfast=True), answered(20, PENALIZED), 0)
    assert len(many.problems) == len(many.untold) > 2
