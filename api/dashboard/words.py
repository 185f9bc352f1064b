"""What people read: states, numbers, sizes, durations. Plain functions, used as filters of the templates."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

STATES: Final[Mapping[str, tuple[str, str]]] = {
    "pending": ("Pending", "wait"),
    "queued": ("In line", "wait"),
    "running": ("Running", "run"),
    "pausing": ("Pausing", "hold"),
    "paused": ("Paused", "hold"),
    "retrying": ("Retrying", "run"),
    "finalizing": ("Finishing", "run"),
    "cancelling": ("Cancelling", "stop"),
    "completed": ("Completed", "good"),
    "completed_with_failures": ("With failures", "part"),
    "failed": ("Failed", "bad"),
    "cancelled": ("Cancelled", "stop"),
    "in_flight": ("In flight", "run"),
    "done": ("Done", "good"),
    "skipped": ("Skipped", "stop"),
}
"""Of batches and documents: how each is called, and the tone it is shown in."""

STAGES: Final[Mapping[str | None, str]] = {
    None: "waiting for its turn",
    "accessing": "asking its source",
    "downloading": "downloading",
    "fetching": "fetching",
    "storing": "storing",
    "detecting": "detecting",
    "waiting": "waiting for a parser",
    "expanding": "unpacking",
    "parsing": "parsing",
    "reading": "read by a model",
    "chunking": "chunking",
    "embedding": "embedding",
    "writing": "writing",
    "answering": "being answered",
    "handing_on": "handing on",
}
"""Of documents in flight, in the order they are passed through."""

OVER: Final = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})
GOING: Final = frozenset({"running", "retrying", "finalizing", "pausing", "cancelling"})

PRIORITIES: Final[Mapping[int, str]] = {1: "Urgent", 2: "High", 3: "Normal", 4: "Low", 5: "Lowest"}

_COUNTED: Final = (
    ("done", "Done", "good"),
    ("failed", "Failed", "bad"),
    ("skipped", "Skipped", "stop"),
    ("cancelled", "Cancelled", "gone"),
    ("in_flight", "In flight", "run"),
    ("pending", "Pending", "rest"),
)
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")
_STEP: Final = 1_000


def state_label(state: str) -> str:
    """An unknown one as it is: enums are open."""
    return STATES.get(state, (state.replace("_", " ").capitalize(), "run"))[0]


def state_tone(state: str) -> str:
    return STATES.get(state, ("", "run"))[1]


def stage_label(stage: str | None) -> str:
    """An unknown one as it is."""
    return STAGES.get(stage) or str(stage).replace("_", " ")


def in_order(stages: Mapping[str | None, int]) -> dict[str, int]:
    """Counts of documents in flight by what their stage is called, in the order they are passed through."""
    known = list(STAGES)
    places = {stage: known.index(stage) if stage in STAGES else len(known) for stage in stages}
    return {stage_label(stage): stages[stage] for stage in sorted(stages, key=places.__getitem__)}


def priority_label(priority: int) -> str:
    return PRIORITIES.get(priority, str(priority))


def number(value: float | None) -> str:
    """With thousands apart; a dash for what is not known."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:,.1f}"


def size(count: float | None) -> str:
    """Bytes in the unit that keeps them short, in steps of a thousand."""
    if count is None:
        return "–"
    left = float(count)
    for unit in _UNITS:
        if left < _STEP or unit == _UNITS[-1]:
            return f"{left:,.0f} {unit}" if unit == "bytes" or left >= 100 else f"{left:.1f} {unit}"
        left /= _STEP
    raise AssertionError("unreachable")


def duration(seconds: float | None) -> str:
    """In the two largest units that say something."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1_000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, length, smaller, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit} {rest} {smaller}" if rest else f"{whole // length} {unit}"
    return f"{whole} s"


def milliseconds(value: float | None) -> str:
    return "–" if value is None else duration(value / 1_000)


def percent(share: float) -> str:
    """Never 100 % before all is done."""
    if share >= 1:
        return "100 %"
    exact = min(share * 100, 99.9)
    return f"{exact:.1f} %" if exact > 99 else f"{exact:.0f} %"


def moment(value: str | datetime | None) -> datetime | None:
    """What the API writes as a time."""
    if value is None or isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value)


def utc(value: str | datetime | None) -> str:
    """To the second, in UTC."""
    at = moment(value)
    return "–" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def seconds_between(start: str | None, end: str | None, now: datetime) -> float | None:
    """From one time of the API to another, or to now."""
    began = moment(start)
    return None if began is None else max(((moment(end) or now) - began).total_seconds(), 0.0)


def ended_count(counts: Mapping[str, int]) -> int:
    return sum(counts[name] for name in ("done", "failed", "skipped", "cancelled"))


def rate(batch: Mapping[str, Any], now: datetime) -> float | None:
    """Documents a second since the batch began; None before it did, where no time has passed, and where it would read 0.0."""
    seconds = seconds_between(batch.get("started_at"), batch.get("ended_at"), now)
    count = ended_count(batch["counts"]) - batch["counts"]["cancelled"]
    pace = count / seconds if seconds and count else 0.0
    return pace if pace >= 0.05 else None


def seconds_left(batch: Mapping[str, Any], now: datetime) -> float | None:
    """Until it should be done, as the API estimates."""
    at = moment(batch.get("estimated_completion_at"))
    return None if at is None else max((at - now).total_seconds(), 0.0)


def origin(batch: Mapping[str, Any]) -> str:
    """Where its documents come from."""
    kinds = dict.fromkeys(source.get("source_type") or "upload" for source in batch.get("sources") or ())
    return ", ".join(kind.replace("_", " ") for kind in kinds) or "upload"


def bar(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The parts of a progress bar: where each begins and how wide it is, of a thousand; each that is not empty is visible."""
    total = counts["total"] or 1
    parts, start = [], 0.0
    for name, label, tone in _COUNTED:
        width = counts[name] * 1_000 / total
        if name != "pending" and 0 < width < 4:
            width = 4.0
        parts.append({"name": name, "label": label, "tone": tone, "count": counts[name], "x": start, "width": width})
        start += width
    return parts


def standing(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """All documents by where they stand, from those that wait to those that ended: the parts of ``bar``."""
    parts = {part["name"]: part for part in bar(counts)}
    return [parts[name] for name in ("pending", "in_flight", "done", "failed", "skipped", "cancelled")]


def short(identifier: str | None) -> str:
    """An id as far as it tells apart."""
    return (identifier or "")[-8:]


def plural(count: int, one: str, many: str | None = None) -> str:
    """The count with its word."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"


def chart(points: Sequence[float], width: int, height: int) -> str:
    """Values as the points of a polyline, scaled to fit."""
    top = max(points, default=0.0) or 1.0
    step = width / max(len(points) - 1, 1)
    return " ".join(f"{index * step:.1f},{height - value / top * height:.1f}" for index, value in enumerate(points))


def waiting_words(waiting_for: str | None) -> str:
    """Why nothing goes on, in a sentence."""
    if not waiting_for:
        return ""
    known = {
        "start": "It waits for its start.",
        "seal": "It takes documents until it is sealed.",
        "resume": "It is paused: nothing new begins until it is resumed.",
        "no worker": "No worker has asked for its work for ten seconds: are workers running?",
        "place": "It waits for a place in line.",
    }
    if waiting_for.startswith("place "):
        return f"It is in line, {waiting_for}."
    return known.get(waiting_for, f"It waits: {waiting_for}.")


def first(items: Iterable[Any]) -> Any:
    return next(iter(items), None)
