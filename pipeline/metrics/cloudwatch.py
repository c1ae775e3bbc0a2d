"""The run's cost per 1,000 output tokens as a custom metric of CloudWatch.

Its dimensions are the standard tags alone: each combination of values is a metric of its own, and
is paid for, so a run's name is none of them.
"""

from __future__ import annotations

from botocore.config import Config
from botocore.session import Session

from pipeline.metrics.figures import Distribution, Told
from pipeline.metrics.port import SINK_SECONDS

COST = "CostPer1kOutputTokens"
_LONGEST = 1_024


def dimension(value: str) -> str:
    """A tag's value as CloudWatch takes one: printable ASCII that is not blank, 1,024 characters.

    What else is in it is written as Python escapes it, and not left out: tags that differ would be
    one metric. A blank one is `unknown`, as one that a job does not name.
    """
    printable = (c if " " <= c <= "~" else c.encode("unicode_escape").decode() for c in value)
    taken = "".join(printable)[:_LONGEST]
    return taken if taken.strip() else "unknown"


class CloudWatch:
    """Credentials and region come from where every AWS client looks for them."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        limits = Config(
            connect_timeout=SINK_SECONDS,
            read_timeout=SINK_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 2},
        )
        self._client = Session().create_client("cloudwatch", config=limits)

    def tell(self, told: Told) -> None:
        """Nothing while the cost is unknown, and nothing of workers."""
        for figure in told.figures:
            if figure.name == "spotmill.cost.per_1k_output_tokens":
                assert not isinstance(figure.value, Distribution)  # noqa: S101 - a gauge is none
                tags = told.subject.tags.items()
                self._client.put_metric_data(
                    Namespace=self._namespace,
                    MetricData=[
                        {
                            "MetricName": COST,
                            "Dimensions": [
                                {"Name": name, "Value": dimension(value)} for name, value in tags
                            ],
                            "Value": float(figure.value),
                            "Unit": "None",
                        }
                    ],
                )

    def forget(self, run_id: str, worker_id: str) -> None:
        """Workers are not told of here."""

    def close(self) -> None:
        self._client.close()
