"""What a job may say: every key, its type and its bounds. Unknown keys are refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from pipeline.core.rows import Sampling, Structured
from pipeline.job_metrics import MetricsSpec
from pipeline.job_section import Section, without_secrets
from pipeline.job_speculative import ModelName, SpeculativeSpec, method_alone
from pipeline.yaml_lines import closest

Quantization = Literal[
    "auto", "none", "compressed-tensors", "awq", "gptq", "fp8", "bitsandbytes", "gguf"
]
ShardOrder = Literal["input", "prefix"]
OVERRIDABLE = frozenset(Sampling.__dataclass_fields__) - {"structured"}
STANDARD_TAGS = ("Project", "Team", "Environment", "ModelID")


class InputSpec(Section):
    """Where prompts come from: exactly one of `prompt`, `messages` and `template`."""

    uri: str = Field(min_length=1, description="file, directory or glob of Parquet")
    prompt: str | None = Field(None, description="a text column, sent as it is")
    messages: str | None = Field(None, description="a column of chat messages")
    template: str | None = Field(None, description="a Jinja template over the row's columns")
    where: str | None = Field(None, description="an SQL condition; other rows are not answered")
    columns: tuple[str, ...] | None = Field(
        None, description="columns carried through to the output; default: all"
    )

    @model_validator(mode="after")
    def _one_prompt(self) -> InputSpec:
        given = [k for k in ("prompt", "messages", "template") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of prompt, messages, template; "
                f"got {' and '.join(given) or 'none'}"
            )
        return self


class OutputSpec(Section):
    uri: str = Field(min_length=1)


class ModelSpec(Section):
    id: Annotated[ModelName, Field(min_length=1)]
    revision: str | None = None
    quantization: Quantization = "auto"
    speculative: Annotated[SpeculativeSpec, BeforeValidator(method_alone)] = SpeculativeSpec(
        method="none"
    )
    max_model_len: int | None = Field(None, ge=1)
    engine: dict[str, Any] = Field(default_factory=dict, description="handed to vLLM as it is")

    @field_validator("engine")
    @classmethod
    def _without_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        # Refused here, not with the other keys, since a plan is stored before an engine is asked.
        if "hf_token" in value:
            raise ValueError(
                "hf_token has no place here, for the job is stored with its output; "
                "set HF_TOKEN where the workers run"
            )
        return value


def _schema_text(value: object) -> object:
    # As text from here on, for a schema's order decides the answer's, and a stored job has none.
    try:
        return json.dumps(value) if isinstance(value, dict) else value
    except TypeError as problem:
        raise ValueError(f"the schema is not JSON: {problem}") from problem


class StructuredSpec(Section):
    """What every answer must match: exactly one of `json`, `regex` and `choice`."""

    model_config = ConfigDict(serialize_by_alias=True)

    json_schema: Annotated[str, BeforeValidator(_schema_text)] | None = Field(
        None,
        alias="json",
        description="a JSON schema, as such or as text",
        json_schema_extra={"anyOf": [{"type": "object"}, {"type": "string"}, {"type": "null"}]},
    )
    regex: str | None = Field(None, min_length=1)
    choice: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(None, min_length=1)

    @field_validator("json_schema")
    @classmethod
    def _is_schema(cls, value: str | None) -> str | None:
        if value is not None and not isinstance(_parsed(value), dict):
            raise ValueError("the schema is no JSON object")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> StructuredSpec:
        given = [k for k, v in self.model_dump().items() if v is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of json, regex, choice; got {' and '.join(given) or 'none'}"
            )
        return self

    def core(self) -> Structured:
        return Structured(json=self.json_schema, regex=self.regex, choice=self.choice)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError as problem:
        raise ValueError(f"the schema is not JSON: {problem}") from problem


class SamplingSpec(Section):
    """vLLM's sampling parameters; `columns` names, by parameter, the column that overrides it."""

    max_tokens: int = Field(256, ge=1)
    temperature: float = Field(0.0, ge=0.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0.0, le=1.0)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    min_tokens: int = Field(0, ge=0)
    presence_penalty: float = Field(0.0, ge=-2.0, le=2.0)
    frequency_penalty: float = Field(0.0, ge=-2.0, le=2.0)
    repetition_penalty: float = Field(1.0, gt=0.0)
    logprobs: int | None = Field(
        None, ge=0, le=20, description="likeliest tokens told beside each token of an answer"
    )
    structured: StructuredSpec | None = None
    columns: dict[str, str] = Field(default_factory=dict)

    @field_validator("stop", mode="before")
    @classmethod
    def _stop_list(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("min_tokens")
    @classmethod
    def _within_max_tokens(cls, value: int, others: ValidationInfo) -> int:
        most = others.data.get("max_tokens", value)
        if value > most:
            raise ValueError(f"min_tokens {value} is more than max_tokens {most}")
        return value

    @field_validator("columns")
    @classmethod
    def _known_parameters(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            if name == "structured":
                raise ValueError("'structured' is the whole job's, and no column can override it")
            if name not in OVERRIDABLE:
                raise ValueError(
                    f"{name!r} is no sampling parameter{closest(name, sorted(OVERRIDABLE))}"
                )
        return value

    @property
    def may_draw(self) -> bool:
        """Whether the answers of some rows may be left to chance."""
        return self.temperature > 0 or "temperature" in self.columns

    @property
    def tells_logprobs(self) -> bool:
        """Whether some rows may have logprobs, so that the output has a column for them."""
        return self.logprobs is not None or "logprobs" in self.columns

    def core(self) -> Sampling:
        return Sampling(
            **self.model_dump(exclude={"columns", "structured"}),
            structured=None if self.structured is None else self.structured.core(),
        )


class ShardsSpec(Section):
    rows: int = Field(50_000, ge=1)
    order: ShardOrder = Field(
        "input",
        description="prefix: rows that share a prompt's beginning go into one shard, from anywhere "
        "in the dataset; their column `spotmill_row` tells the input's order",
    )


class ChunksSpec(Section):
    """A checkpoint is due after this many finished rows or seconds, whichever comes first."""

    rows: int = Field(512, ge=1)
    seconds: float = Field(10.0, gt=0.0)


class FleetSpec(Section):
    workers: int = Field(1, ge=1)
    pool: str | None = None
    on_demand_pool: str | None = None
    deadline: str | None = Field(None, pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    lease_seconds: float = Field(30.0, gt=0.0)


class CostSpec(Section):
    """At `budget_usd` a run stops; at `warn_usd`, 0.8 of that by default, it says so, once."""

    budget_usd: Decimal | None = Field(None, gt=0)
    warn_usd: Decimal | None = Field(None, gt=0)
    prices: str | None = Field(
        None, description="a price book of your own, which goes before all others"
    )
    live_prices: bool = Field(
        True, description="ask the cloud what its spot nodes cost now, where it can be asked"
    )

    @field_validator("warn_usd")
    @classmethod
    def _before_the_budget(cls, value: Decimal | None, others: ValidationInfo) -> Decimal | None:
        budget = others.data.get("budget_usd")
        if value is not None and budget is not None and value > budget:
            raise ValueError(f"warn_usd {value} is more than budget_usd {budget}: nobody is warned")
        return value


class StorageOptions(Section):
    """How to reach the object store; credentials come from the environment, never from here."""

    endpoint_url: str | None = None
    region: str | None = None
    anonymous: bool = False
    profile: str | None = None

    @field_validator("endpoint_url")
    @classmethod
    def _without_credentials(cls, value: str | None) -> str | None:
        instead = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and write https://host"
        return None if value is None else without_secrets(value, instead)


class JobSpec(Section):
    """One job file, resolved: relative paths made absolute, dates filled in."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    input: InputSpec
    output: OutputSpec
    model: ModelSpec
    sampling: SamplingSpec = SamplingSpec()
    shards: ShardsSpec = ShardsSpec()
    chunks: ChunksSpec = ChunksSpec()
    fleet: FleetSpec = FleetSpec()
    cost: CostSpec = CostSpec()
    metrics: MetricsSpec = MetricsSpec()
    tags: dict[str, str] = Field(default_factory=dict)
    storage_options: StorageOptions = StorageOptions()

    def all_tags(self) -> dict[str, str]:
        """The standard tags first, `unknown` where the job names none, then the job's own."""
        return dict.fromkeys(STANDARD_TAGS, "unknown") | self.tags

    def settings_fingerprint(self) -> str:
        """Changes when the rows or their answers could: not with fleet, cost, tags and the like."""
        decisive = self.model_dump(mode="json", include={"input", "model", "sampling", "shards"})
        decisive["input"].pop("uri")
        if self.shards.order == "input":
            # As it was before there were others, so that runs of that time can be gone on with.
            decisive["shards"].pop("order")
        model = decisive["model"]
        model["id"] = without_folder(model["id"])
        model["speculative"] = self.model.speculative.with_models(without_folder).decisive()
        return fingerprint(decisive)


def fingerprint(document: Mapping[str, Any]) -> str:
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def without_folder(model: str) -> str:
    """A local model keeps its identity when the checkout moves; ids and URIs are whole names."""
    return Path(model).name if model.startswith("/") else model
