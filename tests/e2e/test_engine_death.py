"""A real vLLM engine killed in the middle of a worker's session, which goes on with another."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.core.ports import Engine
from pipeline.engines.vllm import load_vllm
from pipeline.spot.signals import NoNotice
from tests.contracts.real_engine import PROMPTS, float32
from tests.e2e.house import job_file, published, spotmill, write

RUN = "night"
ROWS = 48

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]


def kill_core_when(rows_are_finished: Path) -> threading.Thread:
    """In the background; the core is the child that vLLM calls EngineCore."""

    def strike() -> None:
        while not list(rows_are_finished.glob("*/*.parquet")):
            time.sleep(0.05)
        for child in psutil.Process().children():
            if child.children():
                child.kill()

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    return thread


def test_a_session_outlives_its_engine(tmp_path: Path) -> None:
    texts = [PROMPTS[row % len(PROMPTS)].replace("A12", f"A{row}") for row in range(ROWS)]
    write(pa.table({"text": texts}), f"{tmp_path}/prompts/a.parquet")
    model = float32()
    path = job_file(
        tmp_path / "job.yaml",
        name="tickets",
        input={"uri": f"{tmp_path}/prompts/", "prompt": "text"},
        output={"uri": f"{tmp_path}/answers/"},
        model=model.model_dump(include={"id", "max_model_len", "engine"}),
        sampling={"max_tokens": 120, "min_tokens": 100},
        chunks={"rows": 4, "seconds": 1},
    )
    here = open_job(str(path), run_id=RUN)
    plan = wiring.plan(here)
    loads: list[bool] = []

    def load(own_process: bool) -> Engine:
        loads.append(own_process)
        return load_vllm(model, "cpu", own_process=True)

    killer = kill_core_when(tmp_path / "answers/runs" / RUN / "checkpoints")
    report = wiring.run_worker(here, NoNotice(), load_engine=load)
    killer.join(1)
    manifest = wiring.close_books(here, plan)
    assert loads == [False, True]
    assert report["shards_published"] == 1
    assert manifest["output"]["rows_ok"] == ROWS
    assert manifest["tokens"]["wasted"] <= 16, "rows go on from the tokens the dead engine gave"
    answers = published(f"{tmp_path}/answers/", RUN)
    assert all(100 <= tokens <= 120 for tokens in answers["completion_tokens"].to_pylist())
    assert spotmill("verify", str(path), "--run-id", RUN).code == 0
