"""`spotmill verify` as a command: its exit codes, its document, and answers generated again."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.house import Said, job_file, questions, scripted, spotmill, write
from tests.e2e.parts import other_letter, rewrite, with_cell
from tests.e2e.test_sample_job import sample_job

RUN = "night"


def verify(job: str, *options: str) -> Said:
    return spotmill("verify", job, "--run-id", RUN, "--json", *options)


def test_proved_tampered_with_and_unfinished(tmp_path: Path) -> None:
    write(questions(60), str(tmp_path / "prompts/a.parquet"))
    job = str(
        job_file(
            tmp_path / "job.yaml",
            name="questions",
            input={"uri": "prompts/", "prompt": "question"},
            output={"uri": "answers/"},
            model=scripted(window=16, tokens=20),
            shards={"rows": 20},
        )
    )
    assert spotmill("run", job, "--run-id", RUN, "--no-prefect").code == 0
    proved = verify(job, "--deep", "--rows", "6", "--seed", "3")
    assert proved.code == 0, proved.stderr
    assert proved.document["verified"] is True
    assert proved.document["problems"] == []
    deep = proved.document["deep"]
    assert (deep["sampled"], deep["same"], deep["seed"]) == (6, 6, 3)
    assert verify(job).document["deep"] is None

    part = tmp_path / f"answers/data/run={RUN}/part-00001.parquet"
    for row, text in enumerate(pq.read_table(part, columns=["completion"])[0].to_pylist()):
        rewrite(part, with_cell("completion", row, other_letter(text, 1)))
    assert verify(job).code == 0
    tampered = verify(job, "--deep")
    assert tampered.code == 1
    assert {row["shard_id"] for row in tampered.document["deep"]["differing"]} == {1}
    assert "parts at character 1" in tampered.document["problems"][0]

    (tmp_path / f"answers/runs/{RUN}/manifest.json").unlink()
    unfinished = spotmill("verify", job, "--run-id", RUN)
    assert unfinished.code == 1
    assert "is NOT verified" in unfinished.stdout
    assert "the run is not finished" in unfinished.stdout
    (tmp_path / f"answers/runs/{RUN}/job.json").write_text('{"run_id"')
    damaged = spotmill("verify", job, "--run-id", RUN)
    assert damaged.code == 1
    assert "ObjectDamaged" in damaged.stderr
    assert "Traceback" not in damaged.stderr


@pytest.mark.vllm
@pytest.mark.nightly
def test_a_real_model_answers_the_same_again_and_not_what_was_tampered_with(
    tmp_path: Path,
) -> None:
    """Generated with a draft model in a large batch, and generated again without one."""
    job = sample_job(tmp_path)
    said = spotmill("run", job, "--run-id", RUN, "--no-prefect", "--json")
    assert said.code == 0, said.stderr
    part = tmp_path / f"out/data/run={RUN}/part-00000.parquet"
    texts = pq.read_table(part, columns=["completion"])[0].to_pylist()
    spoilt = {7: 3, 50: len(texts[50]) // 2, 90: len(texts[90]) - 1}
    for row, at in spoilt.items():
        rewrite(part, with_cell("completion", row, other_letter(texts[row], at)))
    assert verify(job).code == 0, "the books still add up"
    deep = verify(job, "--deep", "--rows", "384")
    assert deep.code == 1
    found = deep.document["deep"]["differing"]
    assert {(row["shard_id"], row["row"]): row["character"] for row in found} == {
        (0, row): at for row, at in spoilt.items()
    }, deep.stdout
    same, ties = deep.document["deep"]["same"], deep.document["deep"]["near_ties"]
    assert same + len(ties) == 384 - len(spoilt)
