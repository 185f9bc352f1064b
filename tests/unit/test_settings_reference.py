"""The settings page says what the settings are."""

from tests.support.settings_reference import PAGE, page


def test_the_settings_page_is_current():
    """Every variable, default and meaning on the page is the one in the code."""
    assert PAGE.read_text() == page(), "run .venv/bin/python -m tests.support.settings_reference"
