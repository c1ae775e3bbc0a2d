"""The count of an engine outlives the process, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pipeline.core.rows import Request, Sampling
from pipeline.engines.counter import counted_in, counter_in
from pipeline.engines.scripted import ScriptedEngine, ScriptedSettings

_COUNTS_AND_DIES = """
import os, signal, sys
from pipeline.engines.counter import counter_in
add = counter_in(sys.argv[1])
for _ in range(1000):
    add(7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_counted_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "counters"
    process = subprocess.Popen([sys.executable, "-c", _COUNTS_AND_DIES, str(folder)])
    assert process.wait(60) == -signal.SIGKILL
    assert counted_in(folder) == {process.pid: 7000}


def test_two_engines_of_one_process_are_summed(tmp_path: Path) -> None:
    for tokens in (3, 4):
        counter_in(str(tmp_path))(tokens)
    assert counted_in(tmp_path) == {os.getpid(): 7}


def test_a_scripted_engine_counts_what_it_decodes_and_not_what_was_saved(tmp_path: Path) -> None:
    engine = ScriptedEngine(ScriptedSettings(tokens=20, counter=str(tmp_path)), time.sleep)
    saved = whole_answer(b"0")[:2]
    for name, kept in (("continued", saved), ("begun", ())):
        engine.submit(Request(name, tuple(b"0"), Sampling(), kept))
    while engine.in_flight():
        engine.step()
    assert sum(counted_in(tmp_path).values()) == 2 * len(whole_answer(b"0")) - len(saved)


def whole_answer(prompt: bytes) -> tuple[int, ...]:
    engine = ScriptedEngine(ScriptedSettings(tokens=20), time.sleep)
    engine.submit(Request("whole", tuple(prompt), Sampling()))
    while True:
        for completion in engine.step():
            assert len(completion.token_ids) > 2
            return completion.token_ids
