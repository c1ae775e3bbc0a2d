"""`spotmill ...`: one command a verb. Logs go to stderr; `--json` puts one document on stdout."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from pipeline import costing, proving, wiring
from pipeline import tune as tuning
from pipeline.at_hand import JobAtHand, open_job, open_latest_run
from pipeline.clock import STARTED_ANEW, seconds_alive
from pipeline.core.cost_report import By
from pipeline.core.errors import JobInvalid, SpotmillError
from pipeline.core.shard_list import ShardList
from pipeline.cost_page import show_cost
from pipeline.diagnosis import diagnosis
from pipeline.engine_loading import check_engine
from pipeline.job import JobSpec, ShardOrder
from pipeline.predicted import prediction_error
from pipeline.predicting import keeping
from pipeline.predicting.options import Keep, MaxUsd, Sample
from pipeline.predicting.outlook import refuse_above
from pipeline.predicting.planning import predict
from pipeline.showing import show

Json = dict[str, Any]
DONE, DONE_WITH_ERRORS = 0, 3

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
errors = Console(stderr=True, soft_wrap=True)

Job = Annotated[str, typer.Argument(help="job file: a path or an s3:// URI")]
RunId = Annotated[str | None, typer.Option(help="default: the job's name and the date")]
Date = Annotated[str | None, typer.Option(help="YYYY-MM-DD, default: today (UTC)")]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON document on stdout")]
Workers = Annotated[int | None, typer.Option(help="default: fleet.workers of the job", min=1)]
WorkerId = Annotated[str | None, typer.Option(help="default: this host and a random number")]
Deep = Annotated[
    bool, typer.Option("--deep", help="generate a sample of the greedy rows again, and compare")
]
SampledRows = Annotated[
    int | None,
    typer.Option(help=f"how many with --deep, default: {proving.SAMPLED_ROWS}", min=1),
]
Seed = Annotated[int, typer.Option(help="another seed samples other rows")]
Order = Annotated[
    ShardOrder | None,
    typer.Option(help="default: shards.order of the job; prefix reads every row"),
]
TunedRows = Annotated[int, typer.Option("--rows", help="how many to measure with", min=1)]
Again = Annotated[bool, typer.Option("--again", help="measure anew, and replace the profile")]
CostBy = Annotated[By, typer.Option("--by", help="how to share the cost out")]
Tag = Annotated[str | None, typer.Option(help="with --by tag: this one alone, by its values")]
Compare = Annotated[int, typer.Option(help="with how many of the job's runs before it", min=0)]
CompareApi = Annotated[
    list[str] | None,
    typer.Option(help="provider/model of a hosted API, may be repeated; default: a few usual ones"),
]
NoPrefect = Annotated[bool, typer.Option("--no-prefect", help="supervise without Prefect")]


def main() -> None:
    """Run a command; every explained error becomes its exit code (DESIGN §8)."""
    handler = RichHandler(console=errors, show_path=False, log_time_format="%H:%M:%S")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("spotmill").setLevel(os.environ.get("SPOTMILL_LOG_LEVEL", "INFO"))
    code = 1
    try:
        code = app(standalone_mode=False) or DONE
    except SpotmillError as problem:
        errors.print(f"[bold red]error[/] ({type(problem).__name__})", highlight=False)
        errors.print(str(problem), markup=False, highlight=False)
        code = problem.exit_code
    except typer.Abort:
        code = 75
    except typer._click.exceptions.ClickException as problem:
        problem.show()
        code = problem.exit_code
    if "vllm" not in sys.modules:
        # Prefect's embedded server is stopped here; an engine has nothing left to save.
        atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: threads of native libraries can abort the interpreter's own teardown, and an
    # exit code would be lost that says what became of a run. An engine's takes seconds besides.
    os._exit(code)


@app.command()
def plan(
    job: Job,
    run_id: RunId = None,
    date: Date = None,
    order: Order = None,
    sample: Sample = None,
    max_usd: MaxUsd = None,
    keep: Keep = False,
    as_json: AsJson = False,
) -> int:
    """Show the shards a job would be cut into, and what its run is expected to take and cost.
    Nothing is written but with --keep, and nothing generated but for a --sample."""
    here = open_job(job, run_id, date)
    if sample is not None:
        _start_as_workers_are(here)
    # A worker's process is as old when it begins to load its engine.
    boot_seconds = seconds_alive()
    wanted = here.job.shards.order if order is None else order
    started_at = time.monotonic()
    made = wiring.preview_in_order(here) if wanted == "prefix" else wiring.preview(here)
    seconds = time.monotonic() - started_at
    shards = ShardList.of(made.shards)
    found = predict(here, made, sample, boot_seconds)
    if keep:
        keeping.keep(here, made, found)
    document = {
        "run_id": here.run_id,
        "shards": len(made.shards),
        "rows": made.rows,
        "bytes": shards.bytes,
        "files": len(made.origin.files),
        "largest_shard_rows": shards.largest_rows,
        **found,
    }
    show(document, as_json, f"plan of {here.run_id}, by {wanted}, made in {seconds:.1f} s")
    if max_usd is not None:
        refuse_above(document, max_usd)
    return DONE


@app.command()
def run(
    job: Job,
    run_id: RunId = None,
    date: Date = None,
    workers: Workers = None,
    no_prefect: NoPrefect = False,
    as_json: AsJson = False,
) -> int:
    """Run a job to its end, or go on with it: plan, generate, publish, finish."""
    return _run(open_job(job, run_id, date), workers, no_prefect, as_json)


@app.command()
def resume(
    job: Job,
    run_id: RunId = None,
    date: Date = None,
    workers: Workers = None,
    no_prefect: NoPrefect = False,
    as_json: AsJson = False,
) -> int:
    """Go on with a run that was interrupted; by default the job's latest."""
    return _run(open_latest_run(job, run_id, date), workers, no_prefect, as_json)


def _run(here: JobAtHand, workers: int | None, no_prefect: bool, as_json: bool) -> int:
    check_engine(here.job)
    made = wiring.plan(here)
    manifest = here.ledger.run_manifest()
    if manifest is None:
        wiring.check_inputs(here, made)
        wanted = workers or here.job.fleet.workers
        if no_prefect:
            keeping.keep_prediction(here, made, wanted)
            pool = wiring.local_pool(here, made, wanted)
            with wiring.worker_notice(signals=True) as notice:
                wiring.supervise(here, made, pool, notice, wanted)
            manifest = wiring.close_books(here, made)
        else:
            os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
            # Prefect takes seconds to import, which other commands need not pay.
            from flows.here import generate_here

            manifest = generate_here(here, wanted)
    else:
        # Whoever closed them may have died before all was written and told that follows from them.
        manifest = wiring.close_books(here, made)
    off = prediction_error(here, manifest)
    more = {} if off is None else {"prediction": off}
    summary = {**_summary(manifest), **more}
    show(summary, as_json, f"run {here.run_id} is complete", whole={**manifest, **more})
    return DONE_WITH_ERRORS if manifest["output"]["rows_error"] else DONE


@app.command()
def worker(
    job: Job,
    run_id: RunId = None,
    date: Date = None,
    worker_id: WorkerId = None,
    as_json: AsJson = False,
) -> int:
    """Be one worker of a planned run: claim, generate and publish until nothing is left."""
    with wiring.worker_notice(signals=True) as notice:
        report = wiring.run_worker(open_latest_run(job, run_id, date), notice, worker_id)
    show(report, as_json, "worker is done")
    return DONE


@app.command()
def status(job: Job, run_id: RunId = None, date: Date = None, as_json: AsJson = False) -> int:
    """Show how far a run has come, from the object store alone."""
    here = open_latest_run(job, run_id, date)
    show(wiring.status(here), as_json, f"run {here.run_id}")
    return DONE


@app.command()
def verify(
    job: Job,
    run_id: RunId = None,
    date: Date = None,
    deep: Deep = False,
    rows: SampledRows = None,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> int:
    """Re-read a run and prove it: every row once, in order, counts and money adding up."""
    here = open_latest_run(job, run_id, date)
    sampled = (rows or proving.SAMPLED_ROWS) if deep or rows else None
    if sampled:
        _start_as_workers_are(here)
    document = proving.verify(here, sampled, seed)
    verified = document["verified"]
    show(document, as_json, f"run {here.run_id} is {'' if verified else 'NOT '}verified")
    return DONE if verified else 1


@app.command()
def tune(
    job: Job,
    rows: TunedRows = tuning.SAMPLED_ROWS,
    again: Again = False,
    date: Date = None,
    as_json: AsJson = False,
) -> int:
    """Measure ways of speculating on some of a job's rows; `speculative: auto` uses the fastest."""
    here = open_job(job, None, date)
    _start_as_workers_are(here)
    document = tuning.tune(here, rows, again)
    shown = {key: document[key] for key in ("chosen", "why", "tokens_per_second", "fingerprint")}
    shown["trials"] = [tuning.line_of(trial) for trial in document["trials"]]
    title = "measured" if document["measured"] else "measured before; --again measures anew"
    show(shown, as_json, title, whole=document)
    return DONE


def _start_as_workers_are(here: JobAtHand) -> None:
    """A library is preloaded when a process starts, or not at all: the same command once more."""
    if missing := proving.missing_environment(here):
        command = (sys.executable, "-m", "pipeline.cli", *sys.argv[1:])
        now = {STARTED_ANEW: str(time.time())}
        os.execve(command[0], command, {**os.environ, **missing, **now})  # noqa: S606 - itself


@app.command()
def cost(
    job: Job,
    run_id: RunId = None,
    date: Date = None,
    by: CostBy = "worker",
    tag: Tag = None,
    compare: Compare = costing.EARLIER_RUNS,
    compare_api: CompareApi = None,
    as_json: AsJson = False,
) -> int:
    """Show what a run has cost so far: who was charged, what preemption cost, what was saved."""
    if tag is not None and by != "tag":
        raise JobInvalid(f"--tag {tag} needs --by tag", hint=f"--by tag --tag {tag}")
    here = open_latest_run(job, run_id, date)
    document = costing.cost(here, by, tag, compare, compare_api or ())
    show_cost(document, as_json)
    return DONE


@app.command()
def validate(job: Job, date: Date = None, as_json: AsJson = False) -> int:
    """Check a job file, its dataset and what it asks of the engine. No model is loaded."""
    here = open_job(job, None, date)
    check_engine(here.job)
    made = wiring.preview(here)
    show({"valid": True, "rows": made.rows, "shards": len(made.shards)}, as_json, "valid")
    return DONE


@app.command()
def schema() -> int:
    """Print the JSON schema of the job file."""
    print(json.dumps(JobSpec.model_json_schema(), indent=1))  # noqa: T201
    return DONE


@app.command()
def doctor(as_json: AsJson = False) -> int:
    """Say what this installation can do: versions, device, where object storage leads."""
    document = diagnosis()
    show(document, as_json, "doctor")
    return DONE


def _summary(manifest: Mapping[str, Any]) -> Json:
    return {key: manifest[key] for key in ("output", "tokens", "cost")}


if __name__ == "__main__":
    main()
