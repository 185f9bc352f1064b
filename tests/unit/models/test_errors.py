"""The tree of errors: closed, with stable codes, and something to do in each."""

import pickle
import re

import pytest

from ingather.models.errors import (
    Actor,
    BlobNotFoundError,
    DependencyError,
    DocumentError,
    IngatherError,
    RequestError,
    _walk,
    error_classes,
)

CLASSES = list(error_classes().values())
EVERY_CLASS = pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.code)


def test_no_two_classes_share_a_code():
    """A code is what clients, retries and reports know an error by."""
    codes = [kind.code for kind in _walk(IngatherError)]
    assert len(codes) == len(set(codes)) == len(CLASSES)


@EVERY_CLASS
def test_every_error_says_what_to_do_and_who_must(kind):
    """Code, title, advice and status are fixed by the class."""
    assert re.fullmatch(r"[a-z][a-z0-9_]+", kind.code)
    assert kind.title[0].isupper()
    assert not kind.title.endswith(".")
    assert kind.advice.endswith(".")
    assert len(kind.advice) <= 1_000
    assert 400 <= kind.http_status < 600
    assert isinstance(kind.actor, Actor)


@EVERY_CLASS
def test_an_error_crosses_a_process_border_whole(kind):
    """A parser's process hands its error over by pickle."""
    error = pickle.loads(pickle.dumps(kind("What happened.", action="Do this.", stage="parsing", bytes=7)))

    assert type(error) is kind
    assert (error.message, error.action, str(error)) == ("What happened.", "Do this.", "What happened.")
    assert error.facts == {"stage": "parsing", "bytes": 7}


def test_an_instance_may_know_better_what_to_do():
    """The class's advice is for those that do not."""
    assert IngatherError("x").action == IngatherError.advice
    assert IngatherError("x", action="Wait.").action == "Wait."


_CURED_BY_WAITING = {
    "source_unavailable",
    "model_unavailable",
    "document_timeout",
    "too_many_streams",
    "rate_limited",
    "capacity_exceeded",
}


def test_only_what_waiting_cures_is_retried():
    """Infrastructure is, but for an object that is gone; documents and requests are not, but for those that say so."""
    for kind in CLASSES:
        if issubclass(kind, DependencyError):
            assert kind.retryable is (kind is not BlobNotFoundError)
        elif issubclass(kind, (DocumentError, RequestError)) and kind.retryable:
            assert kind.code in _CURED_BY_WAITING


def test_a_senders_error_is_no_server_error():
    """Whoever must act sees it in the status; who has only to wait is told so by 503."""
    for kind in CLASSES:
        if kind.actor is Actor.SENDER and kind.code not in {"source_unavailable", "capacity_exceeded"}:
            assert kind.http_status < 500, kind.code
