"""A model in a bucket becomes files below one folder of this machine, all of them or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import InputInvalid, StoreUnavailable
from pipeline.engines import model_files
from pipeline.engines.model_files import local_model
from pipeline.job import ModelSpec
from pipeline.stores.options import StoreOptions


class Bucket:
    """The two verbs of s3fs that a download needs; `breaks_at` is the file that does not come."""

    def __init__(self, files: dict[str, str], breaks_at: str = "") -> None:
        self.files = files
        self.breaks_at = breaks_at
        self.fetched: list[str] = []

    def find(self, root: str, detail: bool) -> dict[str, dict[str, Any]]:
        assert detail
        return {name: {"ETag": body} for name, body in self.files.items() if name.startswith(root)}

    def get_file(self, name: str, target: str) -> None:
        if name == self.breaks_at:
            raise TimeoutError("the connection went away")
        self.fetched.append(name)
        Path(target).write_text(self.files[name])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "spotmill" / "models"


def fetched_from(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(model_files, "s3fs_filesystem", lambda _: bucket)
    return Path(local_model(ModelSpec(id="s3://lake/m/"), StoreOptions()).id)


def test_a_model_is_fetched_once_without_code_and_pickles(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"lake/m/config.json": "{}", "lake/m/a/w.safetensors": "w", "lake/m/a..b": "dots"}
    bucket = Bucket(files | {"lake/m/w.bin": "pickle", "lake/m/modeling.py": "code"})
    place = fetched_from(bucket, monkeypatch)
    assert place.parent == cache
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert found == {"config.json", "a/w.safetensors", "a..b"}
    assert fetched_from(bucket, monkeypatch) == place
    assert len(bucket.fetched) == 3
    assert list(cache.iterdir()) == [place]


@pytest.mark.parametrize("key", ["lake/m/../../stray", "lake/m/a/../../stray", "lake/m//../stray"])
def test_a_key_that_leads_out_of_the_folder_is_refused(
    cache: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    with pytest.raises(InputInvalid, match="outside its folder") as refused:
        fetched_from(Bucket({"lake/m/config.json": "{}", key: "x"}), monkeypatch)
    assert refused.value.where == "s3://lake/m/"
    assert refused.value.hint
    assert list(cache.iterdir()) == []
    assert not list(cache.parents[1].rglob("stray"))


def test_a_download_that_fails_leaves_nothing_behind(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"lake/m/config.json": "{}", "lake/m/w.safetensors": "w"}
    with pytest.raises(StoreUnavailable):
        fetched_from(Bucket(files, breaks_at="lake/m/w.safetensors"), monkeypatch)
    assert list(cache.iterdir()) == []
    assert (fetched_from(Bucket(files), monkeypatch) / "w.safetensors").read_text() == "w"


def test_a_worker_that_is_late_takes_what_another_fetched(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"lake/m/config.json": "{}"}
    place = fetched_from(Bucket(files), monkeypatch)
    content = place.name

    class Late(Bucket):
        def get_file(self, name: str, target: str) -> None:
            super().get_file(name, target)
            (cache / "aside").rename(cache / content)

    place.rename(cache / "aside")
    assert fetched_from(Late(files), monkeypatch) == place
    assert list(cache.iterdir()) == [place]
