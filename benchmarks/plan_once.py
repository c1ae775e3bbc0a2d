"""Plan a job once, writing nothing: prints what the plan holds, and a digest of its bytes."""

from __future__ import annotations

import hashlib
import json
import sys
import time

from pipeline import wiring
from pipeline.at_hand import open_job
from pipeline.dataset.plan_file import encode_plan


def main() -> None:
    here = open_job(sys.argv[1], run_id="bench", date="2026-01-01")
    began = time.monotonic()
    plan = wiring.preview(here)
    body = encode_plan(plan)
    document = {
        "seconds": time.monotonic() - began,
        "rows": plan.rows,
        "shards": len(plan.shards),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
