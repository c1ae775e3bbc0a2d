"""Reading a job file: what is wrong is said with its line, and all of it at once."""

from __future__ import annotations

import re
import subprocess
import sys
from textwrap import dedent

import pytest

from pipeline.core.errors import JobInvalid
from pipeline.job import JobSpec
from pipeline.job_file import parse_job

MINIMAL = dedent(
    """\
    name: nightly
    input: {uri: in/, prompt: question}
    output: {uri: out/}
    model: {id: some/model}
    """
)


def parse(text: str, source: str = "/jobs/job.yaml") -> JobSpec:
    return parse_job(dedent(text), source=source, date="2026-11-20")


def refusal(text: str, source: str = "/jobs/job.yaml") -> JobInvalid:
    with pytest.raises(JobInvalid) as refused:
        parse(text, source)
    return refused.value


def test_the_least_a_job_can_say() -> None:
    job = parse(MINIMAL)
    assert job.name == "nightly"
    assert job.sampling.core().max_tokens == 256
    assert job.shards.rows == 50_000
    assert (job.chunks.rows, job.chunks.seconds) == (512, 10.0)
    assert job.model.speculative.method == "none"
    assert job.storage_options.endpoint_url is None


@pytest.mark.parametrize(
    ("line", "said", "number"),
    [
        ("shard: {rows: 1}", "unknown key shard; did you mean shards?", 5),
        ("chunks:\n  row: 4", "unknown key chunks.row; did you mean rows?", 6),
        ("sampling:\n  seed: 1\n  max_token: 4", "sampling.max_token; did you mean max_tokens?", 7),
        ("fleet:\n  # a comment\n\n  worker: 2", "fleet.worker; did you mean workers?", 8),
        ("cost: {xyzzy: 1}", "unknown key cost.xyzzy; known: budget_usd, live_prices, prices", 5),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_a_guess(
    line: str, said: str, number: int
) -> None:
    problem = refusal(MINIMAL + line + "\n")
    assert said in problem.what
    assert problem.where == f"/jobs/job.yaml, line {number}"


def test_an_unknown_key_inside_the_speculative_mapping_is_guessed_too() -> None:
    problem = refusal(
        """\
        name: n
        input: {uri: in/, prompt: q}
        output: {uri: out/}
        model:
          id: m
          speculative:
            method: ngram
            num_speculative_token: 4
        """
    )
    assert "did you mean num_speculative_tokens?" in problem.what
    assert problem.where.endswith("line 8")


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    problem = refusal(MINIMAL + "shards: {rows: 1}\nname: other\n")
    assert problem.what == "key name is given twice"
    assert problem.where == "/jobs/job.yaml, line 6"
    assert problem.why == "first on line 1"
    nested = refusal(MINIMAL + "sampling:\n  seed: 1\n  top_p: 0.5\n  seed: 2\n")
    assert "sampling.seed is given twice" in nested.what
    assert nested.where.endswith("line 8")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("name: [a\noutput: {}\n", 2, 7),
        ("name: a\n\tmodel: b\n", 2, 1),
        ("name: a\ninput: {uri: x\n", 3, 1),
        ("name: 'a\n", 2, 1),
    ],
)
def test_bad_yaml_is_placed_by_line_and_column(text: str, line: int, column: int) -> None:
    with pytest.raises(JobInvalid, match="not valid YAML") as refused:
        parse_job(text, source="job.yaml", date="2026-11-20")
    assert refused.value.where == f"job.yaml, line {line}, column {column}"
    assert refused.value.why


@pytest.mark.parametrize(
    ("value", "kind"),
    [("2026-11-31", "timestamp"), ("!!int x", "int"), ("!!bool x", "bool"), ("!!float x", "float")],
)
def test_what_looks_like_a_value_and_is_none_is_refused_with_its_line(
    value: str, kind: str
) -> None:
    problem = refusal(f"name: a\ntags:\n  Day: {value}\n")
    assert problem.what.endswith(f"looks like a {kind} and is none")
    assert problem.where.endswith("line 3")


def test_a_date_is_one_whatever_else_was_imported() -> None:
    enforcer = """
import lmformatenforcer.external.jsonschemaobjectutil
from pipeline.yaml_lines import LinedYaml
print(repr(LinedYaml.parse("day: 2026-11-28", "job.yaml").data["day"]))
"""
    said = subprocess.run(
        [sys.executable, "-c", enforcer], capture_output=True, text=True, check=True
    )
    assert said.stdout == "datetime.date(2026, 11, 28)\n"


def test_a_control_character_is_explained() -> None:
    problem = refusal("name: a\x00b\n")
    assert problem.what == "not valid YAML"
    assert "special characters" in problem.why


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("- a\n- b\n", "no mapping"),
        ("just text\n", "no mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(text: str, said: str) -> None:
    assert said in refusal(text).what


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}\n",
        "\n".join(
            [
                "l0: &l0 [x]",
                *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9)),
            ]
        ),
    ],
    ids=["a loop", "a billion laughs"],
)
@pytest.mark.timeout(5)
def test_yaml_that_refers_to_itself_does_no_harm(text: str) -> None:
    assert isinstance(refusal(text), JobInvalid)


def test_all_complaints_come_at_once_in_the_order_of_lines() -> None:
    problem = refusal(
        """\
        name: nightly
        input: {uri: in/, prompt: q}
        output: {uri: out/}
        shards:
          rows: many
        model: {id: m}
        fleet: {workers: 0}
        colour: red
        """
    )
    assert problem.where == "/jobs/job.yaml, line 5"
    assert problem.what.startswith("shards.rows: ")
    assert re.search(r"line 7: fleet\.workers: .*; line 8: unknown key colour", problem.why)
    assert "spotmill schema" in problem.hint


@pytest.mark.parametrize("section", ["name", "input", "output", "model"])
def test_a_missing_section_is_named(section: str) -> None:
    lines = [line for line in MINIMAL.splitlines() if not line.startswith(section)]
    problem = refusal("\n".join(lines))
    assert problem.what == f"{section} is missing"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "got none"),
        (", prompt: a, messages: b", "got prompt and messages"),
        (", prompt: a, template: b", "got prompt and template"),
        (", prompt: a, messages: b, template: c", "got prompt and messages and template"),
    ],
)
def test_a_job_has_exactly_one_kind_of_prompt(given: str, said: str) -> None:
    problem = refusal(MINIMAL.replace(", prompt: question", given))
    assert "exactly one of prompt, messages, template" in problem.what
    assert said in problem.what
    assert problem.where.endswith("line 2")


@pytest.mark.parametrize("kind", ["prompt", "messages", "template"])
def test_each_kind_of_prompt_is_enough(kind: str) -> None:
    job = parse(MINIMAL.replace("prompt: question", f"{kind}: question"))
    assert getattr(job.input, kind) == "question"


@pytest.mark.parametrize(
    "line",
    [
        "sampling: {temperature: -1}",
        "sampling: {temperature: .nan}",
        "sampling: {temperature: .inf}",
        "sampling: {top_p: 0}",
        "sampling: {top_p: .nan}",
        "sampling: {max_tokens: 0}",
        "sampling: {columns: {temprature: t}}",
        "sampling: {max_tokens: 4, min_tokens: 5}",
        "sampling: {min_tokens: 257}",
        "sampling: {stop: ''}",
        "sampling: {stop: [END, '']}",
        "sampling: {seed: 9223372036854775808}",
        "sampling: {seed: -9223372036854775809}",
        "shards: {rows: 0}",
        "chunks: {seconds: 0}",
        "chunks: {seconds: .nan}",
        "fleet: {lease_seconds: .nan}",
        "fleet: {lease_seconds: 0}",
        "fleet: {deadline: 6am}",
        "fleet: {deadline: '99:99'}",
        "cost: {budget_usd: 0}",
        "cost: {budget_usd: .nan}",
        "cost: {warn_usd: 0}",
        "cost: {budget_usd: 5, warn_usd: 6}",
        "tags: {Team: [a]}",
    ],
)
def test_values_that_make_no_sense_are_refused(line: str) -> None:
    assert refusal(MINIMAL + line + "\n").where == "/jobs/job.yaml, line 5"


@pytest.mark.parametrize("name", ["", "a b", "../x", ".hidden", "a/b", "n" * 101])
def test_a_name_must_be_fit_for_a_key(name: str) -> None:
    assert "name" in refusal(MINIMAL.replace("nightly", name or "''")).what


def test_a_misspelt_sampling_column_is_guessed() -> None:
    problem = refusal(MINIMAL + "sampling: {columns: {temprature: t}}\n")
    assert "did you mean temperature?" in problem.what


def test_one_stop_word_may_stand_alone() -> None:
    assert parse(MINIMAL + "sampling: {stop: END}\n").sampling.stop == ("END",)
    assert parse(MINIMAL + "sampling: {stop: [A, B]}\n").sampling.stop == ("A", "B")


@pytest.mark.parametrize("key", ["key", "secret", "aws_secret_access_key", "token", "password"])
def test_secrets_have_no_place_in_a_job_file(key: str) -> None:
    problem = refusal(MINIMAL + f"storage_options: {{{key}: hunter2}}\n")
    assert f"unknown key storage_options.{key}" in problem.what
    assert "hunter2" not in str(problem)


def test_storage_options_name_endpoint_region_and_profile() -> None:
    job = parse(MINIMAL + "storage_options: {endpoint_url: 'http://x', region: r, profile: p}\n")
    options = job.storage_options
    assert (options.endpoint_url, options.region, options.profile) == ("http://x", "r", "p")


def test_the_standard_tags_are_always_there() -> None:
    job = parse(MINIMAL + "tags: {Team: data, Extra: x}\n")
    assert job.all_tags() == {
        "Project": "unknown",
        "Team": "data",
        "Environment": "unknown",
        "ModelID": "some/model",
        "Extra": "x",
    }


def test_the_widest_sampling_is_taken() -> None:
    sampling = parse(MINIMAL + "sampling: {min_tokens: 256, seed: -9223372036854775808}\n").sampling
    assert (sampling.min_tokens, sampling.seed) == (256, -(2**63))


@pytest.mark.parametrize(
    "endpoint", ["https://key:hunter2@host", "https://key:hun/ter2@host", "key:hunter2@host:9000"]
)
def test_an_endpoint_names_no_user_and_password(endpoint: str) -> None:
    problem = refusal(MINIMAL + f"storage_options: {{endpoint_url: '{endpoint}'}}\n")
    assert problem.where.endswith("line 5")
    assert "AWS_SECRET_ACCESS_KEY" in problem.what
    assert "ter2" not in str(problem)


def test_an_endpoint_has_no_query() -> None:
    endpoint = "https://host/?X-Amz-Signature=hunter2"
    problem = refusal(MINIMAL + f"storage_options: {{endpoint_url: '{endpoint}'}}\n")
    assert "what follows a `?`" in problem.what
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    "model",
    [
        "'https://me:hunter2@hub/model'",
        "'https://hub/model.gguf?token=hunter2'",
        "some/model, speculative: {method: draft_model, model: 'https://me:hunter2@hub/draft'}",
    ],
)
def test_a_models_address_names_no_secret(model: str) -> None:
    problem = refusal(MINIMAL.replace("some/model", model))
    assert problem.where.endswith("line 4")
    assert "set HF_TOKEN" in problem.what
    assert "hunter2" not in str(problem)


def test_a_token_has_no_place_among_the_engines_keys() -> None:
    job = MINIMAL.replace("some/model", "some/model, engine: {hf_token: hunter2}")
    problem = refusal(job)
    assert problem.where.endswith("line 4")
    assert "set HF_TOKEN" in problem.what
    assert "hunter2" not in str(problem)
