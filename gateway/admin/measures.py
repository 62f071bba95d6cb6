"""What is measured while the gateway works, for Prometheus (docs/metrics.md): once a webhook, a fetch or a request to
the store. No patient, no UID, and of strangers no address."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from gateway.avara import Answered, Refused
from gateway.studies import Flight, Outcome

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which the start of the process says

ANSWERED_IN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 7.5, 10, 15, 30)
FETCHED_IN = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800)
STORED_IN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
PROBED_IN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds: the upper ends of the histograms' classes."""


class Measures:
    """Histograms and counters of this process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._webhooks = Histogram(
            "avara_gateway_webhook_seconds", "Time to answer an event, by its type, status and whether it was trouble.",
            ["type", "status", "trouble"], buckets=ANSWERED_IN, registry=self.registry,
        )  # fmt: skip
        self._refused = Counter(
            "avara_gateway_webhooks_refused", "Webhooks that were turned away, since the start: what was not right.",
            ["what"], registry=self.registry,
        )  # fmt: skip
        self._instances = Counter(
            "avara_gateway_instances_fetched", "Instances that came into the store, since the start.",
            ["pacs", "method"], registry=self.registry,
        )  # fmt: skip
        self._bytes = Counter(
            "avara_gateway_fetched_bytes", "Bytes of the instances that came into the store, since the start.",
            ["pacs", "method"], registry=self.registry,
        )  # fmt: skip
        self._asked_again = Counter(
            "avara_gateway_retrieve_retries",
            "Requests to a PACS for what an earlier one of the same fetch did not bring, since the start.",
            ["pacs", "method"], registry=self.registry,
        )  # fmt: skip
        self._fetches = Histogram(
            "avara_gateway_fetch_seconds",
            "Time of a fetch, by PACS, how it ended, and whether the study was held before (warm) or not (cold).",
            ["pacs", "outcome", "study"], buckets=FETCHED_IN, registry=self.registry,
        )  # fmt: skip
        self._first = Histogram(
            "avara_gateway_first_instance_seconds", "Time from the beginning of a cold fetch to its first instance.",
            ["pacs"], buckets=FETCHED_IN, registry=self.registry,
        )  # fmt: skip
        self._requests = Histogram(
            "avara_gateway_store_seconds", "Time of a request to the store, by what it asks for.", ["operation"],
            buckets=STORED_IN, registry=self.registry,
        )  # fmt: skip
        self._repeated = Counter(
            "avara_gateway_store_retries", "Requests to the store that failed and were repeated, since the start.",
            ["operation"], registry=self.registry,
        )  # fmt: skip
        self._by_operation: dict[str, Histogram] = {}
        self._store = Histogram(
            "avara_gateway_store_probe_seconds", "Time in which the store takes, gives back and deletes an object.",
            buckets=PROBED_IN, registry=self.registry,
        )  # fmt: skip

    def webhook(self, what: Answered | Refused) -> None:
        """A webhook came."""
        if isinstance(what, Refused):
            self._refused.labels("signature" if what.unproven else "form").inc()
            return
        labels = what.event.type, str(what.status), "yes" if what.trouble else "no"
        self._webhooks.labels(*labels).observe(what.milliseconds / 1000)

    def fetch(self, flight: Flight, outcome: Outcome, seconds: float) -> None:
        """A fetch has ended."""
        pacs, study = flight.pacs or "none", "cold" if flight.held is None else "warm"
        self._fetches.labels(pacs, type(outcome).__name__, study).observe(seconds)
        for method, (number, size) in flight.brought.items():
            self._instances.labels(pacs, method).inc(number)
            self._bytes.labels(pacs, method).inc(size)
        for method, number in flight.asked_again.items():
            self._asked_again.labels(pacs, method).inc(number)
        if study == "cold" and flight.first_arrival is not None:
            self._first.labels(pacs).observe(flight.first_arrival - flight.began)

    def store_probe(self, seconds: float) -> None:
        """The store did what it is asked for now and then."""
        self._store.observe(seconds)

    def store_request(self, operation: str, seconds: float | None) -> None:
        """A request to the store was answered; or failed, and is repeated, where it has no *seconds*."""
        if seconds is None:
            self._repeated.labels(operation).inc()
            return
        timed = self._by_operation.get(operation)
        if timed is None:  # looked up once: each instance that is stored comes by here
            timed = self._by_operation[operation] = self._requests.labels(operation)
        timed.observe(seconds)
