"""Where a stored document is not the one that follows from the facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pipeline.core.manifest import SCHEMA_VERSION

_LONGEST = 60


def of_another_version(said: Mapping[str, object]) -> str | None:
    """By whom a manifest was written that does not claim to be of this version's making, whose
    figures then follow from the same facts by other rules."""
    version = said.get("schema_version")
    if not isinstance(version, int) or version == SCHEMA_VERSION:
        return None
    return (
        f"by another version of spotmill (schema {version}, this one's is {SCHEMA_VERSION}), which "
        "alone can work it out again"
    )


def differences(said: object, made: object, at: str = "") -> Iterator[str]:
    """One sentence for each field of `said` that is not as in `made`, by its path.

    Whole sections that only `said` has are let be, since documents grow by sections; an entry too
    many inside one is told. Nothing about the shape of `said` is taken for granted.
    """
    if isinstance(made, Mapping):
        if not isinstance(said, Mapping):
            yield _sentence(at, said, made)
            return
        for key, value in made.items():
            below = f"{at}.{key}" if at else str(key)
            if key in said:
                yield from differences(said[key], value, below)
            else:
                yield f"{below} is missing, {_shown(value)} follows from the parts"
        if at:
            extra = [key for key in said if key not in made]
            yield from (f"{at}.{key} is {_shown(said[key])}, nothing says so" for key in extra)
    elif isinstance(made, list):
        if not isinstance(said, list) or len(said) != len(made):
            yield _sentence(at, said, made)
            return
        for index, (one, other) in enumerate(zip(said, made, strict=True)):
            yield from differences(one, other, f"{at}[{index}]")
    # True equals 1, and 1.0 does, but only numbers of one kind are the same JSON.
    elif said != made or isinstance(said, bool) != isinstance(made, bool):
        yield _sentence(at, said, made)


def _sentence(at: str, said: object, made: object) -> str:
    return f"{at} is {_shown(said)}, {_shown(made)} follows from the parts"


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
