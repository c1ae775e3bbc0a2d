"""Compiled code goes from one worker to the next, and nobody without the secret can add to it."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.errors import JobInvalid, StoreUnavailable
from pipeline.core.layout import compile_cache_key
from pipeline.engines import hardware
from pipeline.engines.compile_cache import CompileCache, place_and_secret
from pipeline.engines.hardware import compiled_for, identity
from pipeline.job import ModelSpec
from pipeline.stores.memory import MemoryStore

SECRET = b"sixteen letters!"
FILES = {"torch_compile_cache/ab/rank_0_0/code.so": b"machine code", "modelinfos/llama.json": b"{}"}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def cache_of(node: Path, store: MemoryStore, identity: str = "h100") -> CompileCache:
    return CompileCache(store, SECRET, node, identity)


def compiled_on(node: Path, store: MemoryStore) -> CompileCache:
    """A worker on a machine of its own that had to compile."""
    cache = cache_of(node, store)
    assert cache.fetch() == "new"
    for name, body in {**FILES, "half.lock": b"", "half.tmp": b"x"}.items():
        path = cache.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return cache


def files_of(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_what_one_worker_compiled_the_next_one_has(tmp_path: Path, store: MemoryStore) -> None:
    first = compiled_on(tmp_path / "a", store)
    assert first.keep()
    second = cache_of(tmp_path / "b", store)
    assert second.fetch() == "bucket"
    assert files_of(second.folder) == FILES
    assert list((tmp_path / "b").iterdir()) == [second.folder]
    assert second.fetch() == "node"


def test_what_was_kept_first_counts(tmp_path: Path, store: MemoryStore) -> None:
    first, second = (compiled_on(tmp_path / name, store) for name in "ab")
    assert first.keep()
    kept = store.get(compile_cache_key("h100"))
    (second.folder / "more").write_text("more")
    assert not second.keep()
    assert store.get(compile_cache_key("h100")) == kept


@pytest.mark.parametrize("at", [0, 30, 100, -1])
def test_changed_by_a_bit_it_is_not_unpacked(tmp_path: Path, store: MemoryStore, at: int) -> None:
    compiled_on(tmp_path / "a", store).keep()
    body = bytearray(store.get(compile_cache_key("h100")) or b"")
    body[at] ^= 1
    store.put(compile_cache_key("h100"), bytes(body))
    second = cache_of(tmp_path / "b", store)
    assert second.fetch() == "new"
    assert files_of(second.folder) == {}


def test_signed_by_another_it_is_not_unpacked(
    tmp_path: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    replace(compiled_on(tmp_path / "a", store), secret=b"another's secret").keep()
    second = cache_of(tmp_path / "b", store)
    assert second.fetch() == "new"
    assert files_of(second.folder) == {}
    assert "not signed with our secret" in caplog.text


def test_signed_for_other_hardware_it_is_not_unpacked(tmp_path: Path, store: MemoryStore) -> None:
    compiled_on(tmp_path / "a", store).keep()
    stored = store.get(compile_cache_key("h100"))
    assert stored
    store.put(compile_cache_key("a100"), stored)
    other = cache_of(tmp_path / "b", store, "a100")
    assert other.fetch() == "new"
    assert files_of(other.folder) == {}


@pytest.mark.parametrize("kind", ["outside", "link"])
def test_signed_all_the_same_it_stays_in_its_folder(
    tmp_path: Path, store: MemoryStore, kind: str
) -> None:
    member = tarfile.TarInfo("../../stray" if kind == "outside" else "link")
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(member)
    cache = cache_of(tmp_path / "b", store)
    store.put(compile_cache_key("h100"), cache._signed(packed.getvalue()))
    assert cache.fetch() == "new"
    assert files_of(tmp_path) == {}
    assert [path for path in tmp_path.rglob("*") if path.is_symlink()] == []


def test_too_much_is_not_kept(tmp_path: Path, store: MemoryStore) -> None:
    cache = compiled_on(tmp_path / "a", store)
    assert not replace(cache, limit_bytes=13).keep()
    assert replace(cache, limit_bytes=14).keep()


def test_a_worker_that_compiled_nothing_keeps_nothing(tmp_path: Path, store: MemoryStore) -> None:
    cache = cache_of(tmp_path / "a", store)
    cache.fetch()
    assert not cache.keep()


class Away(MemoryStore):
    def get(self, key: str) -> bytes | None:
        raise StoreUnavailable("away")

    def list(self, prefix: str) -> list[str]:
        raise StoreUnavailable("away")


def test_without_the_store_a_worker_compiles_and_goes_on(tmp_path: Path) -> None:
    cache = compiled_on(tmp_path / "a", Away())
    thread = cache.keep_beside()
    thread.join(10)
    assert not thread.is_alive()


def test_off_unless_asked_for_and_refused_without_a_secret() -> None:
    assert place_and_secret({}) is None
    assert place_and_secret({"SPOTMILL_COMPILE_CACHE_SECRET": "x" * 16}) is None
    asked = {"SPOTMILL_COMPILE_CACHE": "s3://lake/compiled"}
    for secret in ({}, {"SPOTMILL_COMPILE_CACHE_SECRET": "x" * 15}):
        with pytest.raises(JobInvalid, match="needs a secret") as refused:
            place_and_secret(asked | secret)
        assert refused.value.where == "SPOTMILL_COMPILE_CACHE_SECRET"
    found = place_and_secret(asked | {"SPOTMILL_COMPILE_CACHE_SECRET": "x" * 16})
    assert found == ("s3://lake/compiled", b"x" * 16)


# What it is good for.


def test_the_name_changes_with_whatever_code_depends_on(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 64}')
    model = ModelSpec(id=str(tmp_path))
    names = [
        identity(["H100, 9.0"], {"vllm": "0.32.0"}, model),
        identity(["A100, 8.0"], {"vllm": "0.32.0"}, model),
        identity(["H100, 9.0"], {"vllm": "0.33.0"}, model),
        identity(["H100, 9.0"], {"vllm": "0.32.0"}, ModelSpec(id=str(tmp_path), max_model_len=9)),
        identity(
            ["H100, 9.0"],
            {"vllm": "0.32.0"},
            ModelSpec(id=str(tmp_path), engine={"tensor_parallel_size": 2}),
        ),
    ]
    assert names[0] == identity(["H100, 9.0"], {"vllm": "0.32.0"}, model)
    (tmp_path / "config.json").write_text('{"hidden_size": 65}')
    names.append(identity(["H100, 9.0"], {"vllm": "0.32.0"}, model))
    assert len(set(names)) == len(names)


def test_a_cpu_is_known_by_what_it_can_do(tmp_path: Path) -> None:
    told = "processor : 0\nmodel name : Xeon\nflags : avx2 fma\n\nprocessor : 1\nmodel name : y\n"
    (tmp_path / "cpuinfo").write_text(told)
    found = hardware._cpu(tmp_path / "cpuinfo")
    assert found is not None
    assert (found["model"], found["flags"]) == ("Xeon", ["avx2", "fma"])
    assert hardware._cpu(tmp_path / "none") is None
    model = ModelSpec(id="/m")
    assert compiled_for(model, "cpu") == compiled_for(model, "cpu")


def test_gpus_that_nobody_can_name_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiled_for(ModelSpec(id="/m"), "cuda") is None
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'NVIDIA H200, 9.0, 570.1'\n")
    driver.chmod(0o755)
    assert compiled_for(ModelSpec(id="/m"), "cuda")
