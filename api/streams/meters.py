"""What streams cost, for Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from api.streams.event_streams import EventStreams


class StreamMeters(Collector):
    """Reads the streams' own counts when metrics are asked for; nothing is counted twice or kept here."""

    def __init__(self, streams: EventStreams) -> None:
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        """The metrics of this process."""
        streams = self._streams
        yield GaugeMetricFamily("ingather_streams_open", "Event streams and WebSockets open now.", streams.open_count)
        yield GaugeMetricFamily(
            "ingather_batches_followed", "Batches somebody here watches.", streams.hub.followed_count
        )
        yield CounterMetricFamily("ingather_batch_queries", "Queries sent to running batches.", streams.queries.count)
        yield CounterMetricFamily("ingather_event_log_reads", "Blocking reads of the event log.", streams.hub.reads)
