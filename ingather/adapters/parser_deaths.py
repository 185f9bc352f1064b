"""What killed a parser process: from how it ended to the error of the document it had at that moment."""

from dataclasses import dataclass
from typing import Any, Final

from ingather.adapters.parser_wire import Exit
from ingather.models.content import PrepareRequest, Stage
from ingather.models.errors import ParserCrashedError, ParserKilledError, ParserOutOfMemoryError, ParserTimeoutError

CHANCES: Final = 2
"""Processes a document may cost before it is quarantined."""

_MUCH_MEMORY: Final = 0.45
"""A parser that dies having used this share of its memory died of it: what holds half and asks for twice as much,
as growing buffers do, is refused, and native code that is refused memory seldom gets further."""
_BUSY_SHARE: Final = 0.5
"""A parser that had the processor for this share of its time was slow by itself, not held up by the machine."""
_SIGKILL: Final = 9
_SIGXCPU: Final = 24


class ServerLostError(Exception):
    """The fork server took the process along; the document is not to blame."""


class CalledOffError(Exception):
    """The process made room for those set aside before it, or for those behind it; the document is to begin again."""

    def __init__(self, stage: Stage | None) -> None:
        super().__init__()
        self.stage = stage


class ChildDiedError(Exception):
    """The process ended, gave up, or had to be killed, with the document half done."""

    def __init__(self, death: "Death") -> None:
        super().__init__(death.error_type or "died")
        self.death = death


@dataclass(frozen=True, slots=True)
class Death:
    """How one document ended its process."""

    stage: Stage | None
    """None where it had not begun."""
    ended: Exit | None
    """As the fork server tells; None where it did not in time."""
    cpu_seconds: float = 0.0
    """Processor time this document had."""
    error_type: str | None = None
    """The exception it gave up with, or what was wrong with its answer."""
    timed_out: bool = False
    """We killed it when its time was up."""
    killed: bool = False
    """We killed it for another reason, so its signal says nothing."""


def error_of(death: Death, request: PrepareRequest, *, memory_bytes: int) -> ParserKilledError:
    """The document's error; ``quarantined`` where another chance would not change it, or there is none left."""
    kills = request.kills + 1
    facts = _facts(death) | {"kills": kills, "quarantined": kills >= CHANCES}
    if _ran_out_of_time(death):
        # Where the machine held it up, the same document may well pass at another moment.
        facts["quarantined"] = facts["quarantined"] or death.cpu_seconds >= _BUSY_SHARE * request.timeout_seconds
        return ParserTimeoutError(
            f"{request.filename} was still {facts['stage']} after {request.timeout_seconds:g} s",
            timeout_seconds=request.timeout_seconds,
            **facts,
        )
    if _ran_out_of_memory(death, memory_bytes, last=kills >= CHANCES):
        return ParserOutOfMemoryError(
            f"{request.filename} needs more memory than its parser may have ({memory_bytes:,} bytes)",
            memory_limit_bytes=memory_bytes,
            **facts | {"quarantined": True},
        )
    often = {1: "once", 2: "twice"}.get(kills, f"{kills} times")
    return ParserCrashedError(f"parser died {often} on {request.filename}, the last time of {_cause(facts)}", **facts)


def sent_back(request: PrepareRequest, stage: Stage | None) -> ParserTimeoutError:
    """The error of a document that was stopped for the sake of those behind it, which is no fault of its own."""
    return ParserTimeoutError(
        f"{request.filename} was stopped so that the documents beside it need not wait",
        stage=stage.value if stage else "starting",
        kills=request.kills,
        quarantined=False,
    )


def _ran_out_of_time(death: Death) -> bool:
    return death.timed_out or (death.ended is not None and death.ended.signal == _SIGXCPU)


def _ran_out_of_memory(death: Death, memory_bytes: int, *, last: bool) -> bool:
    ended = death.ended
    if ended is None or death.killed:
        return False
    # One SIGKILL may be an operator's; a second one on the same document is the kernel's out-of-memory
    # killer, which takes parsers first.
    return (
        ended.says_out_of_memory
        or ended.peak_memory_bytes >= _MUCH_MEMORY * memory_bytes
        or (last and ended.signal == _SIGKILL)
    )


def _facts(death: Death) -> dict[str, Any]:
    facts: dict[str, Any] = {"stage": death.stage.value if death.stage else "starting"}
    if death.ended is not None:
        facts["peak_memory_bytes"] = death.ended.peak_memory_bytes
        facts["exit_signal"] = death.ended.signal or None
    if death.error_type:
        facts["error_type"] = death.error_type
    return facts


def _cause(facts: dict[str, Any]) -> str:
    if facts.get("error_type"):
        return str(facts["error_type"])
    return f"signal {facts['exit_signal']}" if facts.get("exit_signal") else "an early exit"
