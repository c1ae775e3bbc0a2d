"""Weights are streamed only where the streamer can do what the job asks."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pipeline.engines.limits import Device
from pipeline.engines.starting import arguments
from pipeline.engines.streaming import streamed, streams
from pipeline.job import ModelSpec
from pipeline.stores.options import StoreOptions

URI = "s3://lake/llama/"
ENVIRONMENT = (
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING",
)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"installed": False}, False),
        ({"device": "cpu"}, False),
        ({"id": "/models/llama"}, False),
        ({"id": "org/llama"}, False),
        ({"engine": {"load_format": "runai_streamer"}}, True),
        ({"engine": {"load_format": "safetensors"}}, False),
        ({"quantization": "bitsandbytes"}, False),
        ({"options": StoreOptions(anonymous=True)}, False),
        ({"options": StoreOptions(profile="night")}, False),
    ],
)
def test_what_is_streamed(changed: dict[str, Any], expected: bool) -> None:
    settings: dict[str, Any] = {"id": URI} | changed
    device: Device = settings.pop("device", "cuda")
    installed = settings.pop("installed", True)
    options = settings.pop("options", StoreOptions())
    assert streams(ModelSpec(**settings), device, options, installed=installed) is expected


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the test, or the code, sets of these is gone afterwards."""
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_vllm_gets_a_folder_for_the_small_files_and_the_uri_for_the_weights(
    unset: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    local = ModelSpec(id="/cache/abc", engine={"tensor_parallel_size": 2})
    options = StoreOptions(endpoint_url="https://minio.example")
    given = arguments(streamed(local, URI, options))
    assert (given["model"], given["model_weights"]) == ("/cache/abc", "s3://lake/llama")
    assert given["load_format"] == "runai_streamer"
    assert given["tensor_parallel_size"] == 2
    assert os.environ["AWS_ENDPOINT_URL"] == "https://minio.example"
    assert os.environ["RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING"] == "0"
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-north-1"


def test_amazon_is_asked_as_it_likes_to_be(unset: None) -> None:
    streamed(ModelSpec(id="/cache/abc"), URI, StoreOptions(region="eu-north-1"))
    assert "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING" not in os.environ
    assert os.environ["AWS_DEFAULT_REGION"] == "eu-north-1"
