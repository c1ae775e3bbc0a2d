"""What a job may say of speculative decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from pipeline.job_section import Section, without_secrets

SpeculativeMethod = Literal["none", "auto", "ngram", "draft_model", "eagle", "eagle3", "suffix"]


def _address_without_secrets(model: str) -> str:
    web = model.lower().startswith(("http://", "https://"))
    return without_secrets(model, "set HF_TOKEN where the workers run") if web else model


ModelName = Annotated[str, AfterValidator(_address_without_secrets)]
"""A path, a URI or a hub's id."""


class _DraftSettings(Section):
    method: SpeculativeMethod
    model: ModelName | None = Field(
        None, description="of draft_model, eagle and eagle3: path, URI or id"
    )
    prompt_lookup_max: int | None = Field(None, ge=1)
    prompt_lookup_min: int | None = Field(None, ge=1)
    num_speculative_tokens_per_batch_size: tuple[tuple[int, int, int], ...] | None = Field(
        None, description="[first, last, tokens]: fewer drafts, or none, for larger batches"
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        needs_model = self.method in ("draft_model", "eagle", "eagle3")
        if needs_model and self.model is None:
            raise ValueError(f"speculative method {self.method} needs a `model`")
        if not needs_model and self.model is not None:
            raise ValueError(f"speculative method {self.method} takes no `model`")
        if self.num_speculative_tokens_per_batch_size is not None:
            _check_limits(self.method, self.num_speculative_tokens_per_batch_size)
        return self


def _check_limits(method: str, limits: tuple[tuple[int, int, int], ...]) -> None:
    """As vLLM does, while there is still a line of the job file to point at."""
    if method in ("none", "auto", "suffix"):
        raise ValueError(f"speculative method {method} takes no limits by batch size")
    begins = 1
    for first, last, tokens in limits:
        if first != begins or last < first or tokens < 0:
            raise ValueError(
                f"batch sizes go up from 1 without a gap, [first, last, tokens]; "
                f"found {[first, last, tokens]} where {begins} has to begin"
            )
        begins = last + 1


def method_alone(value: object) -> object:
    """A method's name may stand for a mapping that holds nothing else."""
    return {"method": value} if isinstance(value, str) else value


class CandidateSpec(_DraftSettings):
    """One way of speculating that `spotmill tune` tries; at several depths, if none is named."""

    num_speculative_tokens: int | None = Field(None, ge=1, le=32)

    @field_validator("method")
    @classmethod
    def _drafts(cls, value: str) -> str:
        if value in ("none", "auto"):
            raise ValueError(f"{value} is no candidate: each is compared with none")
        return value


class SpeculativeSpec(_DraftSettings):
    """Speculative decoding, in vLLM's own terms; `auto` is what `spotmill tune` found fastest."""

    num_speculative_tokens: int = Field(3, ge=1, le=32)
    candidates: tuple[Annotated[CandidateSpec, BeforeValidator(method_alone)], ...] = Field(
        (),
        description="of auto: what `spotmill tune` compares with none; default: ngram, and suffix "
        "where arctic-inference is installed",
    )

    @model_validator(mode="after")
    def _of_auto(self) -> Self:
        if self.method != "auto":
            if self.candidates:
                raise ValueError(f"speculative method {self.method} takes no `candidates`")
            return self
        for name, field in SpeculativeSpec.model_fields.items():
            if name not in ("method", "candidates") and getattr(self, name) != field.default:
                raise ValueError(f"auto takes no {name}: name it of one of its `candidates`")
        return self

    def with_models(self, place: Callable[[str], str]) -> SpeculativeSpec:
        """The same with every model named as `place` says."""
        candidates = tuple(_placed(one, place) for one in self.candidates)
        return _placed(self, place).model_copy(update={"candidates": candidates})

    def settings(self) -> dict[str, Any]:
        """As JSON, for an engine or a profile: who is to be compared is nothing to them."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"candidates"})

    def decisive(self) -> dict[str, Any]:
        """As JSON, for a fingerprint: what came later is left out where it is not used, so that
        jobs keep the one that they had."""
        document = self.model_dump(mode="json")
        for later in ("candidates", "num_speculative_tokens_per_batch_size"):
            if not document[later]:
                del document[later]
        return document


_S = TypeVar("_S", bound=_DraftSettings)


def _placed(settings: _S, place: Callable[[str], str]) -> _S:
    return settings.model_copy(update={"model": settings.model and place(settings.model)})
