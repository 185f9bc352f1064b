"""The audit log: who did what, and what was taken in."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from ingather.cli import console
from ingather.cli.commands.administration import tenant_id_of
from ingather.cli.commands.options import AsJson
from ingather.cli.connect import connect
from ingather.cli.console import clean, print_json, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.render import plain_table
from ingather.client.models import AuditEvent
from ingather.models.audit import AuditType, ResourceType

_SHOWN = 3
"""Details in a cell of the table."""


def audit(
    *,
    event_type: Annotated[str | None, typer.Option("--type", help="Such as BATCH_PAUSED.")] = None,
    resource_type: Annotated[
        str | None, typer.Option("--resource-type", help=f"One of {', '.join(ResourceType)}.")
    ] = None,
    resource_id: Annotated[str | None, typer.Option("--resource", help="Id of what it happened to.")] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Who did it.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", help="From then on, in local time: 2026-03-14T18:00.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--until", help="Before then.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Name or id, for an administrator.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show who did what, newest first."""
    if event_type is not None and event_type not in [known.value for known in AuditType]:
        raise CliError(
            f"There is no event type {clean(event_type)!r}",
            detail="Known are: " + ", ".join(known.value for known in AuditType),
            exit_code=ExitCode.USAGE,
            code="usage",
        )
    with connect() as client:
        found = list(
            client.audit(
                event_type=event_type,
                resource_type=resource_type,
                resource_id=resource_id,
                actor=actor,
                since=since,
                until=until,
                tenant_id=tenant_id_of(client, tenant),
                limit=limit,
            )
        )
    if as_json:
        for event in found:
            print_json(event.raw)
    elif found:
        console.show(_table(found))
    else:
        say("No events.")


def _table(found: Sequence[AuditEvent]) -> Table:
    table = plain_table("time", "event", "resource", "actor", "details")
    for column in table.columns[1:]:
        # On a narrow terminal they are folded; nothing is cut.
        column.no_wrap = False
    for event in found:
        at = event.timestamp.astimezone().strftime("%Y-%m-%d %H:%M:%S") if event.timestamp else ""
        what = f"{event.resource_type} {event.resource_id}"
        row = (at, event.type, what, event.actor, _details(event.details))
        table.add_row(*(clean(str(cell)) for cell in row))
    return table


def _details(details: Mapping[str, Any]) -> str:
    shown = [f"{name}={_plainly(value)}" for name, value in list(details.items())[:_SHOWN]]
    return " ".join(shown) + (" …" if len(details) > _SHOWN else "")


def _plainly(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
