"""A model comes out of a real S3 API as it went in, in parts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import InputInvalid, StoreDenied
from pipeline.engines.download import PART_BYTES
from pipeline.engines.model_files import ModelFiles
from pipeline.engines.node_cache import NodeCache
from pipeline.job import ModelSpec
from tests.s3 import S3Bucket


def test_a_model_of_several_parts(s3_bucket: S3Bucket, s3_client: Any, tmp_path: Path) -> None:
    bodies = {
        "config.json": b"{}",
        "w.safetensors": random.Random(7).randbytes(PART_BYTES + 1_000_003),
        "a/empty": b"",
        "w.bin": b"pickle",
    }
    for name, body in bodies.items():
        s3_client.put_object(Bucket=s3_bucket.name, Key=f"models/m/{name}", Body=body)
    s3_client.put_object(Bucket=s3_bucket.name, Key="models/m2/other", Body=b"of another model")
    s3_client.put_object(Bucket=s3_bucket.name, Key="models/m/a/", Body=b"")
    files = ModelFiles(s3_bucket.options, NodeCache(tmp_path))
    found = files.fetch(ModelSpec(id=f"{s3_bucket.uri}/models/m/"))
    place = Path(found.spec.id)
    names = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert names == bodies.keys() - {"w.bin"}
    assert all((place / name).read_bytes() == bodies[name] for name in names)
    assert found.bytes_read == sum(len(bodies[name]) for name in names)
    assert files.has(f"{s3_bucket.uri}/models/m")


def test_a_model_that_is_not_there(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    files = ModelFiles(s3_bucket.options, NodeCache(tmp_path))
    with pytest.raises(InputInvalid, match="no model here"):
        files.fetch(ModelSpec(id=f"{s3_bucket.uri}/models/m/"))
    with pytest.raises((StoreDenied, InputInvalid)):
        files.fetch(ModelSpec(id="s3://spotmill-no-such-bucket-3141/models/m/"))
