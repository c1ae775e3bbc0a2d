"""In which order rows are admitted, and which wait for another's answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.order import Arrangement, Asked, arrange, text_of
from pipeline.core.rows import ChatPrompt, Sampling, TextPrompt

GREEDY = Sampling(max_tokens=100)
SAMPLED = Sampling(max_tokens=100, temperature=0.7)
SEEDED = Sampling(max_tokens=100, temperature=0.7, seed=7)
LEADS = 2


def asked(prompts: Sequence[str], sampling: Sampling = GREEDY, rank: int = 3) -> list[Asked]:
    return [Asked(row, prompt, sampling, rank) for row, prompt in enumerate(prompts)]


def arranged(rows: Sequence[Asked], places: int = 4) -> Arrangement:
    return arrange(rows, LEADS, places)


def test_shared_prefixes_go_together() -> None:
    prompts = [f"{prefix} {n}" for n in range(50) for prefix in ("red", "green", "blue")]
    order = arranged(asked(prompts)).order
    firsts = [prompts[row].split()[0] for row in order]
    assert sum(one != other for one, other in pairwise(firsts)) == 2


def test_short_answers_are_held_back_while_the_longest_lasts() -> None:
    rows = [
        Asked(row, f"{row % 10} {row}", Sampling(max_tokens=256 if row % 2 else 16), 3)
        for row in range(400)
    ]
    order = arranged(rows, places=4).order
    closing = order[-64:]
    assert all(row % 2 == 0 for row in closing), "4 places for 256 steps: 64 answers of 16 tokens"
    before = [rows[row].prompt for row in order[:-64]]
    assert before == sorted(before), "the others stay in the order of their prompts"


def test_longer_classes_go_first_at_the_end() -> None:
    lengths = [512, 8, 64, 8, 64, 512]
    rows = [Asked(row, "x", Sampling(max_tokens=n, seed=row), 3) for row, n in enumerate(lengths)]
    assert arranged(rows, places=10).order == [0, 5, 2, 4, 1, 3]


def test_answers_of_one_length_are_not_held_back() -> None:
    rows = asked(["c", "a", "b"])
    assert arranged(rows).order == [1, 2, 0]


def test_identical_requests_wait_for_the_first() -> None:
    found = arranged(asked(["same", "other", "same", "same"]))
    assert found.order == [1, 0]
    assert found.waiting == {0: [2, 3]}


def test_seeded_answers_repeat_and_drawn_ones_do_not() -> None:
    assert arranged(asked(["same", "same"], SEEDED)).waiting == {0: [1]}
    assert arranged(asked(["same", "same"], SAMPLED)).waiting == {}
    assert arranged([Asked(0, "same", GREEDY, 3), Asked(1, "same", SEEDED, 3)]).waiting == {}


def test_the_lowest_rank_leads() -> None:
    rows = [Asked(0, "x", GREEDY, 3), Asked(1, "x", GREEDY, 1), Asked(2, "x", GREEDY, 0)]
    found = arranged(rows)
    assert found.waiting == {2: [0]}, "a suspect waits for nobody: it is tried"
    assert found.order == []


def test_rows_without_a_request_are_admitted_each() -> None:
    found = arranged([Asked(0, rank=3), Asked(1, rank=3)])
    assert sorted(found.order) == [0, 1]
    assert found.waiting == {}


def test_chats_differ_where_their_texts_run_together() -> None:
    def chat(*contents: str) -> str:
        return text_of(ChatPrompt(tuple({"role": "user", "content": c} for c in contents)))

    assert chat("ab", "c") != chat("a", "bc") != chat("abc")
    assert chat("ab") != text_of(TextPrompt("user\nab"))


@given(
    st.lists(
        st.tuples(
            st.text("ab", max_size=3),
            st.sampled_from([GREEDY, SAMPLED, SEEDED, Sampling(max_tokens=5), None]),
            st.integers(0, 3),
        ),
        max_size=30,
    ),
    st.integers(1, 10),
)
def test_every_row_is_admitted_or_waits_for_one_like_it(
    rows: list[tuple[str, Sampling | None, int]], places: int
) -> None:
    given_rows = [Asked(n, *row) for n, row in enumerate(rows)]
    found = arranged(given_rows, places)
    waiting = [row for followers in found.waiting.values() for row in followers]
    expected = [one.row for one in given_rows if one.rank >= LEADS]
    assert sorted([*found.order, *waiting]) == expected
    for leader, followers in found.waiting.items():
        for row in followers:
            assert (given_rows[row].prompt, given_rows[row].sampling) == (
                given_rows[leader].prompt,
                given_rows[leader].sampling,
            )
