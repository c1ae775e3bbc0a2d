"""The model's own tokenizer, without the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.core.errors import EngineFailed
from pipeline.core.rows import Prompt
from pipeline.engines.last_words import words_of
from pipeline.engines.model_files import without_weights
from pipeline.engines.tokenizing import Tokenizing
from pipeline.job import ModelSpec
from pipeline.stores.options import StoreOptions


def tokenizer_of(model: ModelSpec, options: StoreOptions) -> Callable[[Prompt], tuple[int, ...]]:
    """Encodes prompts as an engine of this model does. Of a model in a bucket, all but the weights
    is fetched. Raises `EngineFailed` when there is no tokenizer, and what stores raise."""
    fetched = without_weights(model, options)
    where = str(model.engine.get("tokenizer") or fetched.spec.id)
    try:
        from transformers import AutoTokenizer

        revision = {} if model.revision is None else {"revision": model.revision}
        here = Path(where).is_absolute()
        loaded = AutoTokenizer.from_pretrained(where, local_files_only=here, **revision)
    except Exception as problem:
        # The tokenizer's files are the model's: what reading them raises, nobody has listed.
        raise EngineFailed(
            "the model's tokenizer could not be loaded", where=model.id, why=words_of(problem)
        ) from problem
    return Tokenizing(loaded).encode
