"""Settings that do not fit are refused by the names of their variables, and never by what they hold."""

from datetime import timedelta

import pytest

from ingather.models.errors import ConfigurationError
from ingather.settings import read_settings, unknown_variables


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("INGATHER_LIMITS__PARSER_SECONDS", "soon", "INGATHER_LIMITS__PARSER_SECONDS: Input should be a valid number"),
        ("INGATHER_AUTH__TOKEN_SECRET", "sk-secret", "INGATHER_AUTH__TOKEN_SECRET: Value should have at least 32"),
        (
            "INGATHER_EMBEDDER__OTHERS",
            '[{"kind": "wordllama"}, {"model": "m", "base_url": "http://m", "api_key": "sk-secret", "dimensions": 3}]',
            "INGATHER_EMBEDDER__OTHERS, 1, dimensions: Input should be greater",
        ),
        (
            "INGATHER_EMBEDDER__OTHERS",
            '[{"api_key": "sk-secret"}]',
            "INGATHER_EMBEDDER__OTHERS, 0: a further embedding",
        ),
        ("INGATHER_EMBEDDER__OTHERS", '[{"api_key": "sk-secret', "INGATHER_EMBEDDER should hold JSON and does not"),
        ("INGATHER_LIMITS__MAX_PARSER_SECONDS", "1", "INGATHER_LIMITS: max_parser_seconds is less than parser_seconds"),
    ],
)
def test_what_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str):
    """Also within JSON; a secret that does not fit is not told on."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        read_settings()
    assert told in refused.value.message
    assert "sk-secret" not in str(refused.value)


@pytest.mark.parametrize("written", ["90", "0:01:30", "PT90S", "0 days, 00:01:30"])
def test_a_duration_is_written_in_seconds_or_as_a_clock_shows_it(monkeypatch: pytest.MonkeyPatch, written: str):
    """A bare number is seconds."""
    monkeypatch.setenv("INGATHER_LLM__TIMEOUT", written)
    assert read_settings().llm.timeout == timedelta(seconds=90)


def test_every_variable_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch):
    """Whoever mends one need not start again to learn of the next."""
    monkeypatch.setenv("INGATHER_API__CURSOR_SECRET", "short")
    monkeypatch.setenv("INGATHER_LIMITS__ZIP_DEPTH", "deep")
    with pytest.raises(ConfigurationError, match=r"(?s)INGATHER_API__CURSOR_SECRET.*INGATHER_LIMITS__ZIP_DEPTH"):
        read_settings()


def test_a_misspelt_variable_is_told_with_the_one_that_may_be_meant():
    """It would set nothing, and nobody would know; the client's own variables and those within JSON are known."""
    environment = {
        "INGATHER_LIMITS__PARSER_SECOND": "5",
        "INGATHER_WEATHER__RAIN": "no",
        "INGATHER_LIMITS__PARSER_SECONDS": "5",
        "INGATHER_EMBEDDER__OTHERS__0__MODEL": "m",
        "INGATHER_URL": "http://127.0.0.1:8000",
        "OTHER__THING": "1",
    }
    strange = unknown_variables(environment)
    assert strange["INGATHER_LIMITS__PARSER_SECOND"] == "INGATHER_LIMITS__PARSER_SECONDS"
    assert strange.keys() == {"INGATHER_LIMITS__PARSER_SECOND", "INGATHER_WEATHER__RAIN"}
