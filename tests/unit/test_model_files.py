"""A model in a bucket becomes files below one folder of this machine, all of them or none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tenacity import stop_after_attempt, wait_none

from pipeline.core.errors import (
    EngineFailed,
    InputChanged,
    InputInvalid,
    JobInvalid,
    StoreUnavailable,
)
from pipeline.engines import download as downloading
from pipeline.engines.download import GivenUp, Part, RemoteFile, download
from pipeline.engines.model_files import FetchedModel, ModelFiles
from pipeline.engines.node_cache import NodeCache, NodeLock, limit_bytes
from pipeline.job import ModelSpec
from pipeline.stores.options import StoreOptions
from pipeline.stores.retry import RetryPolicy

ONCE = RetryPolicy(stop=stop_after_attempt(1), wait=wait_none())
TWICE = RetryPolicy(stop=stop_after_attempt(2), wait=wait_none())


class Lake:
    """Buckets by URI, each of files by name; `breaks_at` is the file that does not come."""

    def __init__(self, **models: dict[str, str]) -> None:
        self.models = models
        self.breaks_at = ""
        self.read: list[str] = []

    def open(self, uri: str) -> OpenLake:
        return OpenLake(self, uri.removeprefix("s3://lake/").rstrip("/"))


class OpenLake:
    def __init__(self, lake: Lake, model: str) -> None:
        self.lake = lake
        self.model = model

    def listed(self) -> Mapping[str, Mapping[str, Any]]:
        files = self.lake.models[self.model]
        return {name: {"ETag": body, "size": len(body)} for name, body in files.items()}

    def read(self, part: Part) -> bytes:
        name = part.file.name
        if name == self.lake.breaks_at:
            # Nothing that a store does, and so not tried again for a minute.
            raise TimeoutError("the connection went away")
        self.lake.read.append(name)
        body = self.lake.models[self.model][name].encode()
        return body[part.offset : part.offset + part.size]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "models"


def fetched(lake: Lake, cache: Path, model: str = "m", **options: Any) -> FetchedModel:
    files = ModelFiles(StoreOptions(), NodeCache(cache), lake.open)
    return files.fetch(ModelSpec(id=f"s3://lake/{model}/"), **options)


def folders(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def names_below(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def test_a_model_is_fetched_once_without_code_and_pickles(cache: Path) -> None:
    files = {"config.json": "{}", "a/w.safetensors": "w", "a..b": "dots", "empty": ""}
    lake = Lake(m=files | {"w.bin": "pickle", "modeling.py": "code"})
    first = fetched(lake, cache)
    place = Path(first.spec.id)
    assert (place.parent, names_below(place)) == (cache, set(files))
    assert (first.source, first.bytes_read) == ("bucket", 7)
    again = fetched(lake, cache)
    assert (again.spec, again.source, again.bytes_read) == (first.spec, "node", 0)
    assert len(lake.read) == 3
    assert folders(cache) == [place]


def test_a_copy_of_a_model_is_not_fetched_but_a_changed_one_is(cache: Path) -> None:
    lake = Lake(m={"w": "1"}, copy={"w": "1"}, changed={"w": "2"}, renamed={"v": "1"})
    places = {name: fetched(lake, cache, name).spec.id for name in lake.models}
    assert places["m"] == places["copy"]
    assert len(set(places.values())) == 3
    assert len(lake.read) == 3


@pytest.mark.parametrize("key", ["../../stray", "a/../../stray", "../stray"])
def test_a_key_that_leads_out_of_the_folder_is_refused(cache: Path, key: str) -> None:
    with pytest.raises(InputInvalid, match="outside its folder") as refused:
        fetched(Lake(m={"config.json": "{}", key: "x"}), cache)
    assert refused.value.where == "s3://lake/m/"
    assert refused.value.hint
    assert not list(cache.parents[0].rglob("stray"))


def test_there_is_no_model_without_files(cache: Path) -> None:
    with pytest.raises(InputInvalid, match="no model"):
        fetched(Lake(m={"w.bin": "pickle"}), cache)


def test_a_download_that_failed_is_gone_on_with(cache: Path) -> None:
    lake = Lake(m={"config.json": "{}", "w.safetensors": "w"})
    lake.breaks_at = "w.safetensors"
    with pytest.raises(TimeoutError):
        fetched(lake, cache)
    assert not [folder for folder in folders(cache) if folder.suffix != ".part"]
    lake.breaks_at = ""
    place = Path(fetched(lake, cache).spec.id)
    assert {name: (place / name).read_text() for name in names_below(place)} == lake.models["m"]
    assert sorted(lake.read) == ["config.json", "w.safetensors"]
    assert folders(cache) == [place]


def test_a_model_that_changes_while_it_is_fetched_is_refused(cache: Path) -> None:
    lake = Lake(m={"w": "old"})

    class Replaced(OpenLake):
        def read(self, part: Part) -> bytes:
            body = super().read(part)
            lake.models["m"] = {"w": "new"}
            return body

    files = ModelFiles(StoreOptions(), NodeCache(cache), lambda _: Replaced(lake, "m"))
    with pytest.raises(InputChanged):
        files.fetch(ModelSpec(id="s3://lake/m/"))
    assert Path(fetched(lake, cache).spec.id, "w").read_text() == "new"


def test_target_and_draft_come_at_the_same_time(cache: Path) -> None:
    lake = Lake(m={"w": "target"}, d={"w": "draft"})
    both = threading.Barrier(2, timeout=20)

    class Meeting(OpenLake):
        def read(self, part: Part) -> bytes:
            both.wait()
            return super().read(part)

    files = ModelFiles(
        StoreOptions(), NodeCache(cache), lambda uri: Meeting(lake, uri.rpartition("/")[2])
    )
    speculative = {"method": "draft_model", "model": "s3://lake/d"}
    found = files.fetch(ModelSpec(id="s3://lake/m", speculative=speculative)).spec
    assert Path(found.id, "w").read_text() == "target"
    assert found.speculative.model
    assert Path(found.speculative.model, "w").read_text() == "draft"


def test_workers_of_one_machine_fetch_a_model_once(cache: Path) -> None:
    class Slow(OpenLake):
        def read(self, part: Part) -> bytes:
            time.sleep(0.05)
            return super().read(part)

    lake = Lake(m={"v": "1", "w": "2"})

    def work() -> None:
        files = ModelFiles(StoreOptions(), NodeCache(cache), lambda _: Slow(lake, "m"))
        found.append(files.fetch(ModelSpec(id="s3://lake/m")))

    found: list[FetchedModel] = []
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len({one.spec.id for one in found}) == 1
    assert sorted(one.source for one in found) == ["bucket", "node", "node", "node"]
    assert sorted(lake.read) == ["v", "w"]


def test_a_folder_that_another_makes_and_keeps_between_two_looks_is_found(cache: Path) -> None:
    """The other shares its lock as long as it lives: who waits to have it alone waits for ever."""
    places = NodeCache(cache, boot="now")
    cache.mkdir(parents=True)
    looking = NodeLock(cache / "model.lock")
    looking.share(lambda: False)
    asked: list[bool] = []

    def meanwhile() -> bool:
        (cache / "model").mkdir(exist_ok=True)
        looking.note = "now"
        asked.append(True)
        return len(asked) > 5

    place = places.place("model", 1, lambda folder: pytest.fail(f"{folder} made twice"), meanwhile)
    assert place.was_here
    assert asked


def test_a_download_that_nobody_waits_for_ends(cache: Path) -> None:
    lake = Lake(m={f"w{n}": "1" for n in range(200)})

    class Interrupting(OpenLake):
        def read(self, part: Part) -> bytes:
            files.give_up()
            return super().read(part)

    files = ModelFiles(StoreOptions(), NodeCache(cache), lambda _: Interrupting(lake, "m"))
    with pytest.raises(GivenUp):
        files.fetch(ModelSpec(id="s3://lake/m"))
    assert len(lake.read) < 50
    assert fetched(lake, cache).source == "bucket"
    assert sorted(lake.read) == sorted(lake.models["m"])


def test_a_worker_that_waits_for_another_can_be_stopped(cache: Path) -> None:
    lake = Lake(m={"w": "1"})

    class Stuck(OpenLake):
        def read(self, part: Part) -> bytes:
            waiting = ModelFiles(StoreOptions(), NodeCache(cache), lake.open)
            waiting.give_up()
            with pytest.raises(GivenUp):
                waiting.fetch(ModelSpec(id="s3://lake/m"))
            return super().read(part)

    files = ModelFiles(StoreOptions(), NodeCache(cache), lambda _: Stuck(lake, "m"))
    assert files.fetch(ModelSpec(id="s3://lake/m")).bytes_read == 1


def test_weights_can_stay_where_they_are(cache: Path) -> None:
    lake = Lake(m={"config.json": "{}", "w.safetensors": "w"})
    place = Path(fetched(lake, cache, weights=False).spec.id)
    assert names_below(place) == {"config.json"}
    files = ModelFiles(StoreOptions(), NodeCache(cache), lake.open)
    assert not files.has("s3://lake/m/")
    whole = Path(fetched(lake, cache).spec.id)
    assert names_below(whole) == {"config.json", "w.safetensors"}
    assert files.has("s3://lake/m/")


def test_what_was_fetched_before_the_machine_crashed_is_not_believed(cache: Path) -> None:
    lake = Lake(m={"v": "1", "w": "2"})
    first = fetched(lake, cache)
    # As a crash does.
    first.places[0].lock.release()
    place = Path(first.spec.id)
    (place / "w").write_text("\0")
    rebooted = ModelFiles(StoreOptions(), NodeCache(cache, boot="another"), lake.open)
    assert not rebooted.has("s3://lake/m/")
    again = rebooted.fetch(ModelSpec(id="s3://lake/m/"))
    assert (again.source, (place / "w").read_text()) == ("bucket", "2")
    assert rebooted.fetch(ModelSpec(id="s3://lake/m/")).source == "node"


# What is kept.


def test_beyond_the_limit_what_was_used_longest_ago_goes(cache: Path) -> None:
    models = {name: {"w": name * 40} for name in "abc"}
    lake = Lake(**models)
    places = {}
    for at, name in enumerate("ab"):
        one = fetched(lake, cache, name)
        one.places[0].lock.release()
        places[name] = Path(one.spec.id)
        old = 1_000_000 + at
        os.utime(places[name], (old, old))
    fetched(lake, cache, "a").places[0].lock.release()
    limited = ModelFiles(StoreOptions(), NodeCache(cache, limit=100), lake.open)
    limited.fetch(ModelSpec(id="s3://lake/c"))
    assert (places["a"].is_dir(), places["b"].is_dir()) == (True, False)


def test_what_a_living_worker_has_stays(cache: Path) -> None:
    lake = Lake(a={"w": "a" * 60}, b={"w": "b" * 60})
    used = fetched(lake, cache, "a")
    limited = ModelFiles(StoreOptions(), NodeCache(cache, limit=100), lake.open)
    other = limited.fetch(ModelSpec(id="s3://lake/b"))
    assert Path(used.spec.id).is_dir()
    assert Path(other.spec.id).is_dir()


def test_a_disk_that_is_full_is_cleared_and_then_said_to_be_full(cache: Path) -> None:
    lake = Lake(a={"w": "a" * 60}, b={"w": "b" * 60})
    old = fetched(lake, cache, "a")
    old.places[0].lock.release()
    full = ModelFiles(StoreOptions(), NodeCache(cache, free_bytes=lambda _: 59), lake.open)
    with pytest.raises(EngineFailed, match="no room") as refused:
        full.fetch(ModelSpec(id="s3://lake/b"))
    assert not Path(old.spec.id).exists()
    assert refused.value.where == str(cache)
    assert "larger disk" in refused.value.hint


def test_the_limit_is_a_number_of_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPOTMILL_MODEL_CACHE_GB", raising=False)
    assert limit_bytes() is None
    monkeypatch.setenv("SPOTMILL_MODEL_CACHE_GB", "1.5")
    assert limit_bytes() == 1_500_000_000
    for wrong in ("plenty", "-1", "nan"):
        monkeypatch.setenv("SPOTMILL_MODEL_CACHE_GB", wrong)
        with pytest.raises(JobInvalid, match="no number of gigabytes"):
            limit_bytes()


# The download itself.


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=6),
    part_bytes=st.integers(1, 17),
    failures=st.sets(st.integers(0, 30), max_size=5),
)
def test_every_byte_arrives_whatever_the_parts(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], part_bytes: int, failures: set[int]
) -> None:
    bodies = {
        f"d{at % 2}/f{at}": bytes((at + i) % 251 for i in range(size))
        for at, size in enumerate(sizes)
    }
    files = [RemoteFile(name, len(body), "v") for name, body in bodies.items()]
    lock, calls, failing = threading.Lock(), 0, set(failures)

    def read(part: Part) -> bytes:
        nonlocal calls
        with lock:
            calls += 1
            if part.offset in failing:
                failing.remove(part.offset)
                raise StoreUnavailable("away")
        body = bodies[part.file.name][part.offset : part.offset + part.size]
        assert len(body) <= part_bytes
        return body

    folder = tmp_path_factory.mktemp("model")
    patience = RetryPolicy(stop=stop_after_attempt(20), wait=wait_none(), sleep=lambda _: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downloading, "PART_BYTES", part_bytes)
        assert download(files, read, folder, patience) == sum(sizes)
    found = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == bodies


def test_a_part_that_comes_short_is_asked_for_again_and_never_named(tmp_path: Path) -> None:
    calls: list[Part] = []

    def read(part: Part) -> bytes:
        calls.append(part)
        return b"12"

    with pytest.raises(StoreUnavailable, match="cut short"):
        download([RemoteFile("w", 3, "v")], read, tmp_path, TWICE)
    assert len(calls) == 2
    assert not (tmp_path / "w").exists()


def test_what_cannot_be_read_ends_the_download(tmp_path: Path) -> None:
    def read(part: Part) -> bytes:
        if part.file.name == "b":
            raise StoreUnavailable("away")
        return b"x" * part.size

    with pytest.raises(StoreUnavailable, match="away"):
        download([RemoteFile(n, 2, "v") for n in "abc"], read, tmp_path, ONCE)
    assert not (tmp_path / "b").exists()
