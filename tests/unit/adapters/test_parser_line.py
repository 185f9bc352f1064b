"""Turns at the parser processes: few documents before many, and many before too many few."""

import asyncio

import pytest

from ingather.adapters.parser_line import ParserLine


@pytest.fixture
def line() -> ParserLine[str]:
    return ParserLine()


class Waiter(asyncio.Future):
    """A waiter with a name."""

    def __init__(self, name: str) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.name = name


def order(line: ParserLine[str]) -> str:
    return " ".join(waiter.name for waiter in line)


def join(line: ParserLine[str], *entries: tuple[str, int]) -> None:
    for name, documents in entries:
        line.join(Waiter(name), documents)


async def test_equals_are_served_as_they_came(line):
    """First come, first served."""
    join(line, ("a", 1), ("b", 1), ("c", 1))
    assert (order(line), line.popleft().name, len(line)) == ("a b c", "a", 2)


async def test_a_single_document_goes_before_a_pack(line):
    """It does not wait while sixteen others are prepared."""
    join(line, ("pack", 16), ("other pack", 16), ("one", 1))
    assert order(line) == "one pack other pack"


async def test_singles_keep_their_own_order(line):
    """The one that came first is first among them, too."""
    join(line, ("pack", 16), ("one", 1), ("two", 1))
    assert order(line) == "one two pack"


async def test_a_pack_is_passed_by_no_more_documents_than_it_has(line):
    """Then it has its turn, whoever comes."""
    join(line, ("pack", 3), *((str(number), 1) for number in range(6)))
    assert order(line) == "0 1 2 pack 3 4 5"


async def test_nobody_passes_one_who_may_not_be_passed(line):
    """A newcomer stays behind the first it may not pass, also where another stands before that."""
    join(line, ("pack", 16), ("first", 1))
    join(line, ("small pack", 2), ("second", 1))
    assert order(line) == "first second small pack pack"


async def test_an_emptied_line_is_empty(line):
    """Everybody was refused: nobody is left."""
    join(line, ("a", 1), ("b", 16))
    line.clear()
    assert (len(line), list(line)) == (0, [])
