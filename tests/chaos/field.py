"""Where battles take place: a real S3 server, its bucket, and the workload of every run."""

from __future__ import annotations

import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.ports import ObjectStore
from pipeline.dataset.file_format import ParquetFormat
from pipeline.engines.counter import counted_in
from pipeline.ledger import Ledger
from pipeline.stores import open_store
from tests.chaos.fire import RunUnderFire
from tests.chaos.outcome import Outcome, judge, outcome_of
from tests.chaos.processes import RunProcess
from tests.chaos.proxy import UnrulyProxy
from tests.chaos.reckoning import Books, Rows, compare_rows, read_books
from tests.chaos.schedule import RunPlan
from tests.e2e.house import SAMPLE, job_file, questions, scripted, spotmill, write
from tests.s3 import S3Bucket, S3Server, running_server

_MOST_ROWS = 3000
# With a price, `spotmill verify` proves that money is conserved too.
_PRICED_AS = {"SPOTMILL_INSTANCE_TYPE": "laptop", "SPOTMILL_INSTANCE_LIFECYCLE": "on-demand"}


@dataclass
class Field:
    """Its runs may be fought by several threads: each has a proxy of its own."""

    server: S3Server
    bucket: S3Bucket
    folder: Path

    def __post_init__(self) -> None:
        self._calm_lock = threading.Lock()
        self._calm_runs: dict[int, str] = {}

    @property
    def store(self) -> ObjectStore:
        """Past every proxy."""
        return open_store(f"{self.bucket.uri}/answers/", self.bucket.options)

    def ledger(self, run_id: str) -> Ledger:
        return Ledger(self.store, run_id, ParquetFormat())

    def fight(self, plan: RunPlan, job: str | None = None) -> Outcome:
        """Run the plan (or `job` by it) to its end through bad weather, and reckon."""
        folder = self.folder / plan.run_id
        folder.mkdir(exist_ok=True)
        job_of_plan = job or self.write_job(plan)
        proxy = UnrulyProxy(self.server.endpoint_url, seed=plan.rows)
        try:
            environment = {
                **self.server.environment,
                **_PRICED_AS,
                "AWS_ENDPOINT_URL": proxy.endpoint_url,
            }
            battle = RunUnderFire(plan, job_of_plan, proxy, environment, folder / "log").fight()
        finally:
            proxy.close()
        outcome = outcome_of(plan, battle)
        outcome.notes += [f"{n} requests met {weather!r}" for weather, n in proxy.met.items()]
        if battle.complete:
            epochs = self.ledger(plan.run_id).latest_epochs().values()
            outcome.claimed_again = sum(epoch - 1 for epoch in epochs)
            self.verify(plan.run_id, job_of_plan, outcome)
            if job is None:
                judge(plan, battle, self.rows(plan), self.books(plan, battle.seen), outcome)
        return outcome

    def verify(self, run_id: str, job: str, outcome: Outcome) -> None:
        said = spotmill("verify", job, "--run-id", run_id)
        if said.code != 0:
            outcome.faults.append(f"spotmill verify: {said.stdout.strip()}")

    def bad_ends(self, plan: RunPlan) -> list[str]:
        """Workers that their supervisors say ended otherwise than done or drained."""
        log = (self.folder / plan.run_id / "log").read_text(errors="replace")
        return re.findall(r"worker \S+ ended: .+\S", log)

    def rows(self, plan: RunPlan) -> Rows:
        """The plan's published rows against the undisturbed run's."""
        folder = self.folder / plan.run_id / "published"
        return compare_rows(self.store, plan.run_id, self._calm(plan.tokens), plan.rows, folder)

    def books(self, plan: RunPlan, seen: Mapping[int, RunProcess]) -> Books:
        counters = self.counters(plan)
        return read_books(self.ledger(plan.run_id), self.store, counters, seen)

    def counters(self, plan: RunPlan) -> Mapping[int, int]:
        """What engines truly decoded, by process."""
        return counted_in(self._counter_folder(plan))

    def _counter_folder(self, plan: RunPlan) -> Path:
        return self.folder / plan.run_id / "counters"

    def write_job(self, plan: RunPlan) -> str:
        """The plan's prompts in the bucket, and its job file."""
        folder = self.folder / plan.run_id
        folder.mkdir(exist_ok=True)
        prompts = f"{self.bucket.uri}/prompts/{plan.run_id}/"
        write(questions(plan.rows), f"{prompts}a.parquet", row_group_size=plan.shard_rows)
        model = scripted(window=plan.window, tokens=plan.tokens, step_seconds=plan.step_seconds)
        model["id"] += f"&counter={self._counter_folder(plan)}"
        path = job_file(
            folder / "job.yaml",
            name=plan.run_id,
            input={"uri": prompts, "prompt": "question"},
            output={"uri": f"{self.bucket.uri}/answers/"},
            model=model,
            # With a seed and a temperature, rows do not continue exactly (core/rows.py).
            sampling={} if plan.exact else {"temperature": 0.7, "seed": 7},
            shards={"rows": plan.shard_rows},
            chunks={"rows": plan.chunk_rows, "seconds": plan.chunk_seconds},
            fleet={"workers": plan.workers, "lease_seconds": plan.lease_seconds},
            cost={"prices": str(SAMPLE / "prices.yaml")},
        )
        return str(path)

    def _calm(self, tokens: int) -> str:
        """A glob of what an undisturbed run publishes; answers do not depend on its size."""
        with self._calm_lock:
            if tokens not in self._calm_runs:
                self._calm_runs[tokens] = self._undisturbed(tokens)
            return self._calm_runs[tokens]

    def _undisturbed(self, tokens: int) -> str:
        folder = self.folder / f"calm-{tokens}"
        write(questions(_MOST_ROWS), str(folder / "prompts/a.parquet"))
        path = job_file(
            folder / "job.yaml",
            name="calm",
            input={"uri": str(folder / "prompts"), "prompt": "question"},
            output={"uri": str(folder / "answers")},
            model=scripted(window=512, tokens=tokens),
        )
        said = spotmill("run", str(path), "--run-id", "calm", "--no-prefect")
        assert said.code == 0, said.stderr
        return f"{folder}/answers/data/**/*.parquet"


@contextmanager
def battlefield(folder: Path) -> Iterator[Field]:
    """A field with a server of its own, whose credentials this process's environment gets."""
    with running_server(folder) as server:
        before: dict[str, Any] = dict(os.environ)
        os.environ.update(server.environment, AWS_ENDPOINT_URL=server.endpoint_url)
        try:
            client = server.client()
            bucket = S3Bucket(f"spotmill-chaos-{uuid.uuid4().hex[:12]}", server.endpoint_url)
            client.create_bucket(Bucket=bucket.name)
            yield Field(server, bucket, folder)
        finally:
            os.environ.clear()
            os.environ.update(before)
