"""How much of a text looks like words."""

import re

_WORD = re.compile(r"[^\W_]+")
_JUNK = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ufffe\uffff\ue000-\uf8ff]|\\(cid:\\d+\\)")
_LONGEST_ASCII_WORD = 40
_SAMPLE_CHARACTERS = 1_024
_SAMPLES = 16
_PUNCTUATION_SHARE = 0.5
"""Punctuation up to this share of the word characters is ordinary writing, tables and code included."""


def text_quality(text: str) -> float:
    """Score a text from 0 (noise, or nothing) to 1 (prose, tables, code in any script).

    Words and numbers count for the text; replacement characters, controls, private-use glyphs,
    letters scattered one by one, endless ASCII runs and heaps of punctuation count against it.
    Long texts are judged by evenly spread samples, so the cost is bounded.
    """
    sample = _sample(text)
    junk = sum(len(found) for found in _JUNK.findall(sample))
    clean = _JUNK.sub(" ", sample) if junk else sample
    words = _WORD.findall(clean)
    lengths = list(map(len, words))
    word_characters = sum(lengths)
    doubtful = 0
    if max(lengths, default=0) > _LONGEST_ASCII_WORD:
        doubtful = sum(len(word) for word in words if len(word) > _LONGEST_ASCII_WORD and word.isascii())
    # A few single letters are ordinary ("a", "I", initials); many are a sparse table or text that fell apart.
    if lengths.count(1) > word_characters // 10:
        scattered = sum(1 for word in words if len(word) == 1 and word.isascii() and word.isalpha())
        doubtful += max(0, scattered - word_characters // 10) // 2
    good = max(0, word_characters - doubtful)
    punctuation = sum(map(len, clean.split())) - word_characters
    against = junk + doubtful + max(0.0, punctuation - _PUNCTUATION_SHARE * good)
    return round(good / (good + against), 4) if good else 0.0


def _sample(text: str) -> str:
    if len(text) <= _SAMPLES * _SAMPLE_CHARACTERS:
        return text
    step = len(text) // _SAMPLES
    return "\n".join(text[i * step : i * step + _SAMPLE_CHARACTERS] for i in range(_SAMPLES))
