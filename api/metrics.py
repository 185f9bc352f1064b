"""Prometheus metrics of the API: base units, ``_total`` on counters, no tenant and no batch as a label."""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

METRICS_MEDIA_TYPE = CONTENT_TYPE_LATEST

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ApiMetrics:
    """One registry per application, so that two applications in a process do not count into each other."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "ingather_http_requests", "Answered requests.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "ingather_http_request_duration_seconds",
            "Time to answer, event streams left out.",
            ("method", "route"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._batches = Counter("ingather_batches_submitted", "Batches accepted.", registry=self.registry)
        self._documents = Counter("ingather_documents_submitted", "Files handed in.", registry=self.registry)
        self._upload_bytes = Counter("ingather_upload_bytes", "Bytes of files taken in.", registry=self.registry)
        self.uploads_open = Gauge("ingather_uploads_open", "Submissions being received.", registry=self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a request; ``seconds`` is None for event streams, which would drown the latencies."""
        known = method if method in {"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"} else "other"
        self._requests.labels(known, route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(known, route).observe(seconds)

    def submitted(self, file_count: int, upload_bytes: int) -> None:
        """Count a batch that was accepted."""
        self._batches.inc()
        self.added(file_count, upload_bytes)

    def added(self, file_count: int, upload_bytes: int) -> None:
        """Count documents that were taken in."""
        self._documents.inc(file_count)
        self._upload_bytes.inc(upload_bytes)

    def render(self) -> bytes:
        return generate_latest(self.registry)
