"""What a node costs, asked again and again beside whoever is charged for it: nobody waits."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from tenacity import RetryCallState, Retrying, sleep_using_event, stop_when_event_set
from tenacity.wait import wait_random_exponential

from pipeline.core.money import UNKNOWN_PRICE, NodePrice

log = logging.getLogger("spotmill.prices")

ASK_SECONDS = 300.0
"""EC2's spot prices change a few times a day, and its history is a cheap call."""
AGAIN_SECONDS = 2.0
"""The first pause after a market that did not answer; the next are longer."""
PATIENCE_SECONDS = 30.0
_LISTED_PATIENCE_SECONDS = 5.0


class Asked(Protocol):
    """Who is asked. One thread does."""

    def price(self) -> NodePrice:
        """May take seconds, and raises nothing."""
        ...

    @property
    def is_silent(self) -> bool:
        """Whether there is a market that should tell, and never did."""
        ...


class PriceWatch:
    """Implements `PriceQuotes` by a thread that asks at once, and then every `ASK_SECONDS`; sooner
    while a market never answered yet, after pauses that double, no two workers' alike."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._told = UNKNOWN_PRICE
        self._closing = threading.Event()
        self._answered = threading.Event()
        self._soon = wait_random_exponential(AGAIN_SECONDS, ASK_SECONDS, min=AGAIN_SECONDS / 2)
        # A daemon, since an answer may take seconds that a worker which ends does not have.
        self._thread = threading.Thread(target=self._ask, name="prices", daemon=True)

    def start(self) -> PriceWatch:
        self._thread.start()
        return self

    def price(self) -> NodePrice:
        """What was told last; never waits."""
        return self._told

    def first(self) -> NodePrice:
        """The price to begin with, for which a market that does not answer at once is asked a few
        times: for seconds where a list knows the price, else for `PATIENCE_SECONDS`."""
        patience = min(_LISTED_PATIENCE_SECONDS, PATIENCE_SECONDS)
        if not self._answered.wait(patience) and self._told.usd_per_hour is None:
            self._answered.wait(PATIENCE_SECONDS - patience)
        return self._told

    def close(self) -> None:
        """Ask no more. What hangs is left behind."""
        self._closing.set()

    def _ask(self) -> None:
        Retrying(
            stop=stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            wait=self._pause,
            retry=lambda _: True,
            retry_error_callback=lambda _: None,
        )(self._once)

    def _once(self) -> None:
        try:
            self._told = self._asked.price()
        except Exception as problem:
            # Whatever it is, who is asked again may do better.
            log.warning("what an hour costs now is not known: %s", str(problem) or repr(problem))
            return
        if not self._asked.is_silent:
            self._answered.set()

    def _pause(self, state: RetryCallState) -> float:
        return ASK_SECONDS if self._answered.is_set() else self._soon(state)
