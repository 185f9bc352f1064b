"""`ingather demo`: the whole product in a minute. Start everything, ingest the samples, search, stop.

It fails when anything is not as it should be: every sample has an outcome it must reach, two of them
a typed failure, and the question must be answered by the right file.
"""

import contextlib
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ingather.cli.console import print_line, show, talk
from ingather.cli.demo_stack import DemoStack
from ingather.cli.errors import CliError
from ingather.cli.render import hit_view
from ingather.cli.watching import watch_to_end
from ingather.client import IngatherClient
from ingather.client.models import Batch, Document
from ingather.samples import ANSWER_FILES, EXPECTED, QUESTION, sample_paths

COLLECTION = "observatory"
KEPT_FOLDER = Path(".ingather-demo")


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data, in .ingather-demo unless told otherwise.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Keep the data here.")] = None,
) -> None:
    """Start everything, ingest the samples, search, stop."""
    began = time.monotonic()
    with _terminated_like_ctrl_c(), _folder(keep=keep, data_dir=data_dir) as folder:
        with _running_stack(folder) as stack, IngatherClient(stack.url) as client:
            ended = _ingest(client)
            _check_outcomes(list(client.documents(ended.id)))
            _search(client, ended.id)
        _say(f"Stopped. The demo took {time.monotonic() - began:.0f} s.", "bold")
        if keep or data_dir is not None:
            _say(f"The data is kept. Go on with it: {_program()} up --data-dir '{folder}'")
            if stack.first_key:
                _say(f"Its first API key, shown this once: {stack.first_key}")
        else:
            _say(
                f"Now with your own documents: `{_program()} up`, "
                f"and in a second terminal `{_program()} submit PATH --watch`."
            )


@contextlib.contextmanager
def _running_stack(folder: Path) -> Iterator[DemoStack]:
    """The stack, started and stopped with a word about each."""
    stack = DemoStack(folder)
    began = time.monotonic()
    try:
        with _working("Starting Temporal, S3, Redis, the API and workers"):
            stack.start()
        _say(f"Ready after {time.monotonic() - began:.1f} s at {stack.url}")
        yield stack
    finally:
        with _working("Stopping everything"):
            stack.stop()


def _ingest(client: IngatherClient) -> Batch:
    paths = sample_paths()
    metadata = {path.name: {"source": "observatory", "format": path.suffix.lstrip(".")} for path in paths}
    _say(f"Submitting {len(paths)} files about a small observatory: PDF, Word, PowerPoint, Excel, mail, a ZIP …")
    batch = client.submit(paths, metadata=metadata, name="Observatory samples", collection=COLLECTION)
    return watch_to_end(client, batch, as_json=False, after=0, hint="Ctrl-C stops the demo.")


def _check_outcomes(documents: Sequence[Document]) -> None:
    """Every sample ended as it must.

    Raises:
        CliError: naming each one that did not.
    """
    found = {document.filename: _outcome(document) for document in documents}
    wrong = [
        f"{name}: {found.get(name, 'missing')} instead of {expected}"
        for name, expected in EXPECTED.items()
        if found.get(name) != expected
    ]
    wrong += [f"{name}: nobody submitted it" for name in found.keys() - EXPECTED.keys()]
    if wrong:
        raise CliError("The samples did not end as expected", detail="\n".join(wrong), action="Please report this.")
    failed = sum(outcome != "done" for outcome in EXPECTED.values())
    _say(f"The {failed} failures are intended: one sample has a password, one was cut off. Neighbours do not notice.")


def _outcome(document: Document) -> str:
    if document.error is not None:
        return document.error.code
    # In a folder that was kept, the same samples are there already.
    return "done" if document.status == "skipped" else document.status


def _search(client: IngatherClient, batch_id: str) -> None:
    with _working("Searching"):
        hits = client.search(QUESTION, collection=COLLECTION, limit=2)
    _say(f"\n{QUESTION}", "bold")
    for position, hit in enumerate(hits, 1):
        show(hit_view(position, hit))
    if not hits or hits[0].filename not in ANSWER_FILES:
        raise CliError(
            "Search did not find the answer",
            detail=f"Expected one of {', '.join(sorted(ANSWER_FILES))} first, in batch {batch_id}.",
            action="Please report this.",
        )


@contextlib.contextmanager
def _folder(*, keep: bool, data_dir: Path | None) -> Iterator[Path]:
    if keep or data_dir is not None:
        yield (data_dir or KEPT_FOLDER).resolve()
        return
    # Short, because servers put their sockets here and a socket's path has about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="ingather-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextlib.contextmanager
def _working(what: str) -> Iterator[None]:
    if talk().is_terminal:
        with talk().status(Text(f"{what} …")):
            yield
    else:
        _say(f"{what} …")
        yield


@contextlib.contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """SIGTERM stops the stack too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _program() -> str:
    """This program as it was called: `make demo` leaves nobody with `ingather` on the path."""
    return "ingather" if shutil.which("ingather") else shlex.quote(sys.argv[0])


def _say(message: str, style: str = "") -> None:
    """The demo's words are its output."""
    print_line(message, style)
