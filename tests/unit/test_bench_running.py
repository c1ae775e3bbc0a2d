"""Families that fail, and processes that are measured from outside."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import child, running
from benchmarks.child import ChildFailed
from benchmarks.families import Family
from benchmarks.figure import Failure, Figure, Record
from benchmarks.setting import Setting


def _python(code: str) -> list[str | Path]:
    return [sys.executable, "-c", code]


def test_a_child_is_measured_alone() -> None:
    wait = "import time; time.sleep(0.1)"
    small = child.run(_python(f"print('{{\"a\": 1}}'); {wait}"))
    large = child.run(_python(f"x = b'x' * 200_000_000; print('noise\\n{{\"a\": 2}}'); {wait}"))
    assert small.document() == {"a": 1}
    assert large.document() == {"a": 2}
    # This test's own memory, from which they are forked, is more than that of the small one.
    assert small.peak_bytes < 50e6
    assert 190e6 < large.peak_bytes - small.peak_bytes < 220e6
    assert small.wall_seconds > 0 and small.processor_seconds > 0


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise ValueError('the words')", "exit code 1.*the words"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
    ],
)
def test_a_child_that_fails_says_how(code: str, words: str) -> None:
    with pytest.raises(ChildFailed, match=f"(?s){words}"):
        child.run(_python(code))


def test_a_child_that_hangs_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(ChildFailed, match=r"longer than 0\.3 s"):
        child.run(_python("import time; time.sleep(60)"), seconds=0.3)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("output", ["", "words", "[1]"])
def test_output_without_a_document_is_refused(output: str) -> None:
    with pytest.raises(ChildFailed):
        child.run(_python(f"print({output!r})")).document()


class _Family(Family):
    """Measures one figure, then breaks."""

    def measure(self):  # type: ignore[no-untyped-def]
        def measured(_: Setting) -> Iterator[Record]:
            yield Figure("a.one", "one", 1.0, "how")
            raise RuntimeError("the engine caught fire")

        return measured


def test_what_was_measured_before_a_failure_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "records.jsonl"
    assert running.write_records(_Family("a", "A"), Setting(), path) == 1
    assert running.read_records(path) == [Figure("a.one", "one", 1.0, "how")]
    assert capsys.readouterr().err.rstrip().endswith("RuntimeError: the engine caught fire")


def test_a_torn_last_line_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    whole = json.dumps(Failure("a", "b").to_json())
    path.write_text(f"{whole}\n{whole[:9]}")
    assert running.read_records(path) == [Failure("a", "b")]
    assert running.read_records(tmp_path / "none") == []


def test_a_family_whose_process_fails_is_written_down_and_the_next_goes_on() -> None:
    broken = Family("no-such-family", "Broken")
    speculation = Family("speculation", "Speculation")
    first, second = running.run_families([broken, speculation], Setting(size="quick", model="x"))
    [failure] = first.records
    assert isinstance(failure, Failure)
    assert failure.key == "no-such-family" and "StopIteration" in failure.reason
    assert second.family == "speculation"
