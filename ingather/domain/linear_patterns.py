"""Regular expressions that somebody else wrote, in time linear in the text whatever they say.

Python's own engine goes back and tries again: ``^(a+)+$`` over thirty characters takes it a minute, in which the whole
process stands still. This one is Rust's, which Pydantic brings; it knows no look-around and no back-references.
"""

from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

_REMEMBERED = 128


class UnusablePatternError(ValueError):
    """Not a regular expression, or one that has no linear time, or too large a one."""


def check_pattern(pattern: str) -> None:
    """Raises ``UnusablePatternError``."""
    _compiled(pattern)


def occurs(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text. Raises ``UnusablePatternError``."""
    return _compiled(pattern).isinstance_python(text)


@lru_cache(_REMEMBERED)
def _compiled(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex", strict=True))
    except SchemaError as error:
        raise UnusablePatternError from error
