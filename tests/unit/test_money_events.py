"""What the supervising flow makes of what it is told: Prefect events, and never a failure. That
they arrive is tests/e2e/test_prefect.py's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows import generate
from pipeline.at_hand import open_job
from pipeline.budget import Announce
from tests.e2e.house import job_file, scripted


def emitter(place: Path) -> Announce:
    path = job_file(
        place / "job.yaml",
        name="questions",
        input={"uri": "prompts/", "prompt": "question"},
        output={"uri": "answers/"},
        model=scripted(),
    )
    return generate._emitter(open_job(str(path), "night"))


def test_a_jump_is_an_event_with_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(generate, "emit_event", lambda name, **said: sent.append((name, said)))
    emitter(tmp_path)("cost-jump", "dearer", {"cause": "acceptance fell", "ratio": 1.6})
    resource = {
        "prefect.resource.id": "spotmill.run.night",
        "prefect.resource.name": "night",
        "spotmill.job": "questions",
    }
    payload = {"message": "dearer", "run_id": "night", "cause": "acceptance fell", "ratio": 1.6}
    assert sent == [("spotmill.cost-jump", {"resource": resource, "payload": payload})]


def test_an_event_that_cannot_be_sent_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OSError("no server")

    monkeypatch.setattr(generate, "emit_event", away)
    emitter(tmp_path)("cost-jump", "dearer", {})
    assert "no event spotmill.cost-jump: no server" in caplog.text
