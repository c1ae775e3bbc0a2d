"""`python -m benchmarks`: says what is missing on a bare checkout before anything needs it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

_NEEDED = (
    *("pyarrow", "pydantic", "yaml", "jinja2", "rich", "typer", "psutil", "s3fs", "botocore"),
    *("tenacity", "ministack", "torch", "vllm"),
)


def missing_packages() -> list[str]:
    return [name for name in _NEEDED if find_spec(name) is None]


def main() -> int:
    if missing := missing_packages():
        extra = "gpu" if "--gpu" in sys.argv else "cpu"
        words = "cannot begin: this Python lacks " + ", ".join(missing)
        hint = f"pip install -e .[{extra},dev]" if extra == "gpu" else "make setup"
        print(f"{words}\n  what to do: {hint}", file=sys.stderr)
        return 2
    from benchmarks.command import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
