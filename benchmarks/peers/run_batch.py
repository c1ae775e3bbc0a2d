"""`vllm run-batch`: OpenAI batch JSONL in and out, every request at once, by its documentation.

It serves chat requests alone, so the chat template passes the message through as it is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from benchmarks.peers.spec import Spec, answer, flags, read_spec

_AS_IT_IS = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
_READS = "Reading batch from"


def _write_requests(spec: Spec, path: Path) -> None:
    with path.open("w") as lines:
        for number, row in enumerate(spec.rows):
            body = {
                "model": spec.model,
                "messages": [{"role": "user", "content": row["prompt"]}],
                "max_tokens": row["max_tokens"],
                "temperature": 0.0,
                "add_special_tokens": True,
            }
            request = {
                "custom_id": str(number),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            lines.write(json.dumps(request) + "\n")


def _watch(stream: IO[str], seen: dict[str, float]) -> None:
    for line in stream:
        sys.stderr.write(line)
        if _READS in line:
            seen.setdefault("reads", time.monotonic())


def main() -> None:
    spec = read_spec()
    asked, answered = spec.folder / "requests.jsonl", spec.folder / "responses.jsonl"
    template = spec.folder / "as-it-is.jinja"
    template.write_text(_AS_IT_IS)
    _write_requests(spec, asked)
    command = [
        str(Path(sys.executable).with_name("vllm")),
        "run-batch",
        f"--input-file={asked}",
        f"--output-file={answered}",
        f"--model={spec.model}",
        f"--chat-template={template}",
        *flags(spec.engine),
    ]
    seen: dict[str, float] = {}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        watching = threading.Thread(target=_watch, args=(process.stdout, seen))
        watching.start()
        while process.poll() is None and not answered.exists():
            time.sleep(0.01)
        done = time.monotonic()
        code = process.wait()
        watching.join()
    if code:
        raise SystemExit(f"vllm run-batch ended with exit code {code}")
    responses = [json.loads(line) for line in answered.read_text().splitlines()]
    bodies = [r["response"]["body"] for r in responses if r["error"] is None]
    tokens = sum(body["usage"]["completion_tokens"] for body in bodies)
    answer(len(bodies), tokens, done - seen["reads"] if "reads" in seen else None)


if __name__ == "__main__":
    main()
