"""Fewer drafts, or none, in a vLLM engine that runs: called in its workers, wherever they are."""

from __future__ import annotations

from typing import Any

DRAFT_SWITCH = "pipeline.engines.draft_switch.DraftSwitch"
SWITCH = "spotmill_draft_depth"
_TAKE_A_DEPTH = ("ngram", "draft_model", "eagle", "eagle3")


class DraftSwitch:
    """vLLM mixes this into its worker (`worker_extension_cls`)."""

    model_runner: Any
    vllm_config: Any

    def spotmill_draft_depth(self, depth: int) -> bool:
        """At most so many drafts a row from the next step on; at 0 the drafter does not run.

        False when it cannot be told: a scheduler that runs ahead has counted on the drafts.
        """
        runner = self.model_runner
        propose = getattr(runner, "propose_draft_token_ids", None)
        if propose is None or self.vllm_config.scheduler_config.async_scheduling:
            return False
        if not isinstance(propose, _Limited):
            propose = runner.propose_draft_token_ids = _Limited(runner, propose)
        propose.depth = depth
        return True


class _Limited:
    """In place of the model runner's `propose_draft_token_ids`, of vLLM 0.32 and 0.33."""

    def __init__(self, runner: Any, propose: Any) -> None:
        self.depth = 0
        self._runner = runner
        self._propose = propose
        self._takes_depth = runner.speculative_config.method in _TAKE_A_DEPTH

    def __call__(self, scheduler_output: Any, *arguments: Any, **named: Any) -> Any:
        if self.depth == 0:
            # What n-gram answers where it finds nothing.
            return [[] for _ in range(self._runner.input_batch.num_reqs)]
        if self._takes_depth:
            # A suffix tree insists on the depth it was made with.
            scheduled = scheduler_output.num_spec_tokens_to_schedule
            scheduler_output.num_spec_tokens_to_schedule = min(self.depth, scheduled)
        drafts = self._propose(scheduler_output, *arguments, **named)
        if isinstance(drafts, list):
            return [draft[: self.depth] for draft in drafts]
        return drafts[:, : self.depth]
