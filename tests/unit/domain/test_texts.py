"""Summaries are cut to what was asked for."""

from ingather.domain.texts import cut_to_words


def test_a_text_is_cut_at_the_end_of_its_last_sentence_that_fits():
    """No sentence is broken where whole ones make up a good part."""
    assert cut_to_words("It stood. It fell. It was rebuilt in a year.", 6) == "It stood. It fell."
    assert cut_to_words(" It stood. ", 6) == "It stood."


def test_an_abbreviation_at_the_start_is_no_summary():
    """A title's full stop is no sentence: the first words are kept instead."""
    assert cut_to_words("Dr. Brandt drew the plans of the harbour in a single winter", 8) == (
        "Dr. Brandt drew the plans of the harbour …"
    )
