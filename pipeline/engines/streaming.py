"""Whether weights go from the bucket to the device without a copy on this machine's disk."""

from __future__ import annotations

import os
from importlib.util import find_spec

from pipeline.engines.limits import Device
from pipeline.job import ModelSpec
from pipeline.stores.options import StoreOptions, endpoint_for

_LOADER = "runai_streamer"


def streamer_installed() -> bool:
    """The package that streams, and those by which it speaks S3."""
    return all(
        find_spec(name) for name in ("runai_model_streamer", "runai_model_streamer_s3", "boto3")
    )


def streams(model: ModelSpec, device: Device, options: StoreOptions, *, installed: bool) -> bool:
    """True when vLLM is to stream this model's weights; otherwise they are fetched first.

    The streamer finds credentials in the environment or the machine's role alone, so neither
    anonymous reading nor a profile is for it. A job that names another loader gets that one.
    """
    return (
        installed
        and device == "cuda"
        and model.id.startswith("s3://")
        and model.engine.get("load_format", _LOADER) == _LOADER
        and model.quantization not in ("bitsandbytes", "gguf")
        and not options.anonymous
        and options.profile is None
    )


def streamed(local: ModelSpec, uri: str, options: StoreOptions) -> ModelSpec:
    """The model whose config and tokenizer are local, with its weights at `uri`.

    vLLM would mirror the small files by itself, code among them, and would not see that a model
    was replaced under its URI.
    """
    endpoint = endpoint_for(options)
    if endpoint.url:
        os.environ.setdefault("AWS_ENDPOINT_URL", endpoint.url)
        # Endpoints other than Amazon's are asked for buckets by path, as everywhere else here.
        os.environ.setdefault("RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING", "0")
    if endpoint.region:
        os.environ.setdefault("AWS_DEFAULT_REGION", endpoint.region)
    engine = local.engine | {"load_format": _LOADER, "model_weights": uri.rstrip("/")}
    return local.model_copy(update={"engine": engine})
