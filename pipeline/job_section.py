"""What every section of a job file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Never changed once it is read; a key it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def without_secrets(url: str, instead: str) -> str:
    """`url`, if it has no user and password and no query, which keys are handed over in: a job is
    stored with its output. Raises `ValueError` else, with what to do `instead`, and without it."""
    for marks, what in (("@", "a user name or password"), ("?#", "what follows a `?` or `#`")):
        # Wherever it stands, for a secret with a slash in it ends what a parser calls the host.
        if any(mark in url for mark in marks):
            raise ValueError(
                f"{what} has no place here, for the job is stored with its output; {instead}"
            )
    return url
