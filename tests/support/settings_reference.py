"""The settings page, made from the settings themselves:  .venv/bin/python -m tests.support.settings_reference"""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from ingather.settings import Settings

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "settings.md"

HEAD = """# Settings

Read from the environment by the API and the workers. Temporal's own variables (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`,
`TEMPORAL_API_KEY`, `TEMPORAL_TLS_*`, or a profile file) say where Temporal is, so Temporal Cloud needs nothing else.
`ingather up` sets all of these for its own processes.

Durations are seconds (`90`), `0:01:30`, `1 day, 0:00:00` or ISO 8601 (`PT90S`).

A value that does not fit is refused at the start by the name of its variable. A name that is no setting is told, with the one that may be meant,
by `ingather up`, by `ingather doctor` and in the logs of workers and API.

Every `INGATHER_LIMITS__…` is listed under the same name at `GET /v1/limits`, and an error that refuses names its limit.
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD, "| variable | default | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _rows(Settings, "INGATHER_")]
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    meanings = _docstrings(model)
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _rows(nested, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", _default(field), meanings.get(name, "")


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None:
        return "unset"
    if value == ():
        return "none"
    if isinstance(value, SecretStr):
        return f"`{value.get_secret_value()}`"
    return f"`{value}`"


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Strings that stand under a field are its meaning."""
    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[statement.target.id] = " ".join(str(after.value.value).split()).replace("``", "`").replace("|", "\\|")
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
