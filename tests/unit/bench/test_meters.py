"""What the bench reads of processes and servers."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bench.meters import PeakMemory, cpu_seconds, processes_by_part, temporal_calls

METRICS = b"""# HELP service_requests requests
service_requests{operation="StartWorkflowExecution",service_name="frontend"} 3
service_requests{operation="RespondActivityTaskCompleted",namespace="a",service_name="frontend"} 1e+03
service_requests{operation="RespondActivityTaskCompleted",namespace="b",service_name="frontend"} 5
service_requests{operation="AddTask",service_name="matching"} 77
service_latency{operation="StartWorkflowExecution",service_name="frontend"} 9
"""


@pytest.fixture
def metrics_port():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(METRICS)

        def log_message(self, *_):
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_what_the_frontend_was_asked_is_counted(metrics_port):
    """Over all namespaces, by operation; other services of the server are its own affair."""
    assert temporal_calls(metrics_port) == {"StartWorkflowExecution": 3, "RespondActivityTaskCompleted": 1_005}


@pytest.fixture
def busy_child():
    process = subprocess.Popen([sys.executable, "-c", "x = bytearray(30_000_000)\nwhile True: pass"])
    yield process
    process.kill()
    process.wait()


def test_a_workers_children_are_its_parsers(busy_child):
    """Other parts keep theirs; the supervisor itself is not measured."""
    parts = processes_by_part({"worker-1": os.getpid(), "redis": busy_child.pid, "up": 1})

    assert [process.pid for process in parts["workers"]] == [os.getpid()]
    assert busy_child.pid in {process.pid for process in parts["parsers"]}
    assert [process.pid for process in parts["redis"]] == [busy_child.pid]
    assert "up" not in parts


def test_time_and_memory_are_told_by_part(busy_child):
    """A process that computes has used the processor, and its peak holds what it allocated."""
    pids = {"api": busy_child.pid}
    with PeakMemory(pids) as memory:
        before = cpu_seconds(pids)["api"]
        while cpu_seconds(pids)["api"] < before + 0.3 or not memory.peaks:
            threading.Event().wait(0.05)

    assert memory.peaks["api"] > 5_000_000


def test_a_part_that_ended_costs_nothing_more(busy_child):
    """A process that goes while it is measured does not end the bench."""
    parts = processes_by_part({"api": busy_child.pid})
    busy_child.kill()
    busy_child.wait()

    assert list(parts) == ["api"]
