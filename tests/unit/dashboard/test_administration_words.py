"""What forms make of what was entered, and what limits, sources and outcomes are called."""

from datetime import UTC, datetime, timedelta

import pytest

from api.dashboard.forms import Mistakes, day, json_object, mistakes_of, repeated_key, whole_number
from api.dashboard.pages import connections, keys, limits, system, tenants, webhooks
from ingather.models.accounts import Scope, TenantLimits
from ingather.models.connection_settings import SETTINGS, secret_fields
from ingather.models.engine import ROLES
from ingather.settings import Limits

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def test_a_mistake_belongs_to_the_field_that_the_pointer_passes():
    """What belongs to none is told above the form."""
    errors = [
        {"pointer": "#/settings/urls/3", "detail": "no address", "code": "x"},
        {"pointer": "#/settings", "detail": "Value error, give one of both", "code": "x"},
    ]
    found = mistakes_of({"detail": "It does not fit.", "errors": errors}, {"urls"})
    assert (found.about("urls"), found.others) == ("no address", ["settings: give one of both"])


def test_a_problem_without_places_says_what_to_do():
    """As the API advises; and at the field it names."""
    found = mistakes_of({"detail": "Taken.", "action": "Choose another.", "field": "username"}, {"username"})
    assert (found.title, found.advice, found.about("username")) == ("Taken.", "Choose another.", "Taken.")


@pytest.mark.parametrize(("text", "value"), [("", None), ("1,000,000", 1_000_000), ("1 000", 1_000), ("0", 0)])
def test_whole_numbers_are_read_as_people_write_them(text, value):
    """Nothing is None."""
    mistakes = Mistakes()
    assert (whole_number({"n": text}, "n", mistakes), mistakes.is_empty) == (value, True)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "٣"])
def test_what_is_no_whole_number_is_a_mistake(text):
    """At its field."""
    mistakes = Mistakes()
    whole_number({"n": text}, "n", mistakes)
    assert mistakes.about("n")


@pytest.mark.parametrize("text", ["{", "[]", "1", "{'a': 1}"])
def test_what_is_no_json_object_is_a_mistake(text):
    """At its field, with the place where it can be told."""
    mistakes = Mistakes()
    assert json_object({"schema": text}, "schema", mistakes) is None
    assert mistakes.about("schema")


def test_a_day_ends_when_the_next_begins():
    """A moment is itself; what is neither is nothing."""
    assert (day("2026-03-14"), day("2026-03-14", is_end=True)) == (
        datetime(2026, 3, 14, tzinfo=UTC),
        datetime(2026, 3, 15, tzinfo=UTC),
    )
    assert (day("2026-03-14T12:00", is_end=True), day("soon")) == (NOON, None)


def test_only_keys_of_our_forms_are_passed_on():
    """Whatever else stands in the field is left out."""
    assert repeated_key({"once": "page-abc"}) == {"Idempotency-Key": "page-abc"}
    assert repeated_key({"once": "other"}) == repeated_key({}) == {}


def test_every_kind_of_source_has_a_form_with_fields_it_knows():
    """And secret ones are those that the connection would hide."""
    assert set(connections.KINDS) == {kind.value for kind in SETTINGS}
    for kind, settings in SETTINGS.items():
        form = connections.KINDS[kind.value]
        assert {field.name for field in form.fields} <= set(settings.model_fields), kind
        secret = {field.name for field in form.fields if field.kind in connections.SECRET_KINDS}
        assert secret == secret_fields(settings), kind


def test_headers_and_lists_are_read_line_by_line():
    """A line without a colon is a mistake."""
    mistakes = Mistakes()
    given = {"urls": "http://a/\n\n http://b/ ", "headers": "Authorization: Bearer a:b\nX-One: 1"}
    settings = connections.settings_of(connections.KINDS["http"], given, mistakes)
    assert settings == {
        "urls": ["http://a/", "http://b/"],
        "headers": {"Authorization": "Bearer a:b", "X-One": "1"},
    }
    assert mistakes.is_empty
    connections.settings_of(connections.KINDS["http"], {"headers": "nothing"}, mistakes)
    assert mistakes.about("headers")


def test_a_trail_leads_back_to_each_folder():
    """Ids and names by turns."""
    trail = connections.trail_of(["a", "A", "b", "B"])
    assert [(each["name"], each["flat"]) for each in trail] == [("A", ["a", "A"]), ("B", ["a", "A", "b", "B"])]


@pytest.mark.parametrize(
    ("remembered", "ticked", "chosen"),
    [("", ["a", "b"], ["a", "b"]), ('["c", "c", 1, ""]', ["a"], ["c"]), ("{", ["a"], ["a"]), ('{"a": 1}', [], [])],
)
def test_chosen_files_are_those_that_the_page_remembers_else_those_ticked(remembered, ticked, chosen):
    """Each once."""
    assert connections.chosen_files(remembered, ticked) == chosen


def test_every_limit_has_words_and_none_is_lost():
    """Those of later versions are shown under their names."""
    shown = limits.in_words(Limits().model_dump() | {"max_moons": 3})
    assert [row["label"] for row in shown.pop(limits.OTHERS)] == ["Max moons"]
    assert {row["name"] for rows in shown.values() for row in rows} == set(Limits.model_fields)


def test_a_tenants_form_has_every_limit_it_may_have():
    """In the words of the limits page."""
    assert set(tenants.OWN_LIMITS) == set(TenantLimits.model_fields)


def test_every_scope_and_role_is_explained():
    """None is offered without saying what it means."""
    assert set(keys.SCOPES) == {scope.value for scope in Scope}
    assert set(system.ROLES) == set(ROLES)


@pytest.mark.parametrize(
    ("expires_at", "word"),
    [
        (None, "Live"),
        (NOON + timedelta(days=30), "Live"),
        (NOON + timedelta(days=6), "Ends soon"),
        (NOON, "Expired"),
    ],
)
def test_a_key_says_how_it_stands(expires_at, word):
    """A week before its end it says so."""
    key = {"expires_at": expires_at.isoformat() if expires_at else None}
    assert keys.standing(key, NOON)[1] == word


def test_a_worker_with_two_queues_is_shown_once():
    """As it was seen last."""
    early, late = ({"identity": "1@red", "last_seen_at": at, "version": None} for at in ("2026-01-01", "2026-01-02"))
    role = {"queues": [{"workers": [late]}, {"workers": [early]}]}
    assert system.people_of(role) == [late]


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [(200, None, "200"), (500, "It answered 500.", "500: It answered 500."), (None, "Refused.", "no answer: Refused.")],
)
def test_an_attempt_is_told_in_a_few_words(status, error, said):
    """The status, and why it was not enough."""
    assert webhooks.outcome_of({"status_code": status, "error": error}) == said
