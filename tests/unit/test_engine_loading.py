"""What is fetched before an engine is loaded, from where, and what is said of it afterwards."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline import engine_loading
from pipeline.core.errors import JobInvalid
from pipeline.core.session import EngineStart
from pipeline.engine_loading import VllmLoader, engine_loader
from pipeline.engines.compile_cache import CompileCache
from pipeline.engines.limits import Device
from pipeline.job import JobSpec, ModelSpec
from pipeline.stores.options import StoreOptions
from tests.s3 import S3Bucket

SECRET = "sixteen letters!"


class Machine:
    """Where vLLM would be loaded; one `cache` folder is one machine."""

    def __init__(self, patch: pytest.MonkeyPatch, device: Device = "cpu") -> None:
        self.patch = patch
        self.loaded: list[ModelSpec] = []
        self.kept: list[threading.Thread] = []
        keep_beside = CompileCache.keep_beside

        def kept(cache: CompileCache) -> threading.Thread:
            self.kept.append(keep_beside(cache))
            return self.kept[-1]

        for name in (
            "VLLM_CACHE_ROOT",
            "TRITON_CACHE_DIR",
            "VLLM_USE_AOT_COMPILE",
            "RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING",
        ):
            patch.setenv(name, "")
            patch.delenv(name)
        patch.setattr(CompileCache, "keep_beside", kept)
        patch.setattr(engine_loading, "device_at_hand", lambda: device)
        patch.setattr(engine_loading, "streamer_installed", lambda: True)
        patch.setattr(engine_loading, "import_vllm", lambda *_, **__: None)
        patch.setattr(engine_loading, "load_vllm", self._load)

    def _load(self, model: ModelSpec, device: Device, own_process: bool) -> object:
        assert Path(model.id, "config.json").is_file()
        self.loaded.append(model)
        if root := os.environ.get("VLLM_CACHE_ROOT"):
            # As an engine that compiles what it does not find.
            Path(root, "code.so").write_bytes(b"machine code")
        return object()

    def load(self, model: ModelSpec, cache: Path, options: StoreOptions) -> EngineStart:
        self.patch.setenv("XDG_CACHE_HOME", str(cache))
        loader = VllmLoader(model, options)
        loader(False)
        for thread in self.kept:
            thread.join(20)
        assert loader.start is not None
        return loader.start


@pytest.fixture
def uri(s3_bucket: S3Bucket, s3_client: Any) -> str:
    for name, body in {"config.json": b"{}", "w.safetensors": b"weights"}.items():
        s3_client.put_object(Bucket=s3_bucket.name, Key=f"m/{name}", Body=body)
    return f"{s3_bucket.uri}/m"


def test_a_model_is_fetched_and_then_found(
    uri: str, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, model = Machine(monkeypatch), ModelSpec(id=uri, engine={"enforce_eager": True})
    first = machine.load(model, tmp_path, s3_bucket.options)
    assert (first.weights, first.compiled, first.bytes_fetched) == ("bucket", "off", 9)
    again = machine.load(model, tmp_path, s3_bucket.options)
    assert (again.weights, again.bytes_fetched) == ("node", 0)
    assert machine.loaded[0] == machine.loaded[1]
    here = machine.load(machine.loaded[0], tmp_path, s3_bucket.options)
    assert here.weights == "local"


def test_on_a_gpu_weights_are_streamed_unless_they_are_here(
    uri: str, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, model = Machine(monkeypatch, "cuda"), ModelSpec(id=uri)
    streamed = machine.load(model, tmp_path / "a", s3_bucket.options)
    assert (streamed.weights, streamed.bytes_fetched) == ("streamed", 2)
    assert machine.loaded[0].engine == {"load_format": "runai_streamer", "model_weights": uri}
    copied = ModelSpec(id=uri, engine={"load_format": "safetensors"})
    assert machine.load(copied, tmp_path / "b", s3_bucket.options).weights == "bucket"
    found = machine.load(model, tmp_path / "b", s3_bucket.options)
    assert (found.weights, machine.loaded[-1].engine) == ("node", {})


def test_what_one_machine_compiled_is_found_by_the_next(
    uri: str, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, model = Machine(monkeypatch), ModelSpec(id=uri)
    monkeypatch.setenv("SPOTMILL_COMPILE_CACHE", str(tmp_path / "bucket"))
    monkeypatch.setenv("SPOTMILL_COMPILE_CACHE_SECRET", SECRET)
    options, found = s3_bucket.options, []
    # The same path on every machine, since vLLM's own key is made of paths, too.
    for _ in range(2):
        found.append(machine.load(model, tmp_path / "home", options).compiled)
        (tmp_path / "home").rename(tmp_path / f"gone-{len(found)}")
    assert found == ["new", "bucket"]
    assert machine.load(model, tmp_path / "gone-2", options).compiled in ("new", "node")
    eager = ModelSpec(id=uri, engine={"enforce_eager": True})
    assert machine.load(eager, tmp_path / "home", options).compiled == "off"
    assert os.environ["VLLM_USE_AOT_COMPILE"] == "0"


def test_a_compile_cache_without_a_secret_is_refused(
    uri: str, s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch)
    monkeypatch.setenv("SPOTMILL_COMPILE_CACHE", f"{s3_bucket.uri}/compiled")
    monkeypatch.delenv("SPOTMILL_COMPILE_CACHE_SECRET", raising=False)
    with pytest.raises(JobInvalid, match="needs a secret"):
        machine.load(ModelSpec(id=uri), tmp_path, s3_bucket.options)
    assert machine.loaded == []


def test_a_scripted_engine_has_nothing_to_tell() -> None:
    spec = JobSpec.model_validate(
        {
            "name": "n",
            "input": {"uri": "/in", "prompt": "p"},
            "output": {"uri": "/out"},
            "model": {"id": "scripted://?window=3"},
        }
    )
    loader = engine_loader(spec, StoreOptions())
    assert (loader(True).window, loader.start) == (3, None)
