"""Webhooks: create, list, change, rotate, test, delete; what was sent to them, and sending it again."""

from typing import Annotated

import typer

from ingather.cli import console
from ingather.cli.commands.options import AsJson
from ingather.cli.connect import connect
from ingather.cli.console import clean, print_json, print_line, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.render import plain_table
from ingather.client import Delivery, Webhook

webhooks_app = typer.Typer(no_args_is_help=True, add_completion=False)

WebhookArgument = Annotated[str, typer.Argument(metavar="ID", help="The webhook's id.")]
Events = Annotated[
    list[str] | None,
    typer.Option("--event", metavar="TYPE", help="What it hears of, such as batch.completed; repeatable."),
]


@webhooks_app.callback()
def webhooks() -> None:
    """Create, test, rotate and delete webhooks; show and repeat deliveries."""


@webhooks_app.command("create")
def create(
    url: Annotated[str, typer.Argument(metavar="URL", help="Where events are sent.")],
    *,
    event: Events = None,
    description: Annotated[str | None, typer.Option("--description", help="For people.")] = None,
    as_json: AsJson = False,
) -> None:
    """Register a webhook; its id goes to stdout, with its secret, which is shown this once, on a second line."""
    with connect() as client:
        made = client.create_webhook(url, event_types=event or (), description=description)
    if as_json:
        print_json(made.raw)
        return
    print_line(clean(made.id))
    _show_secret(made)
    say(f"Next: ingather webhooks test {clean(made.id)}", "dim")


@webhooks_app.command("list")
def list_webhooks(
    *,
    batch_id: Annotated[str | None, typer.Option("--batch", help="The one that this batch named.")] = None,
    as_json: AsJson = False,
) -> None:
    """List webhooks, newest first."""
    with connect() as client:
        found = list(client.webhooks(batch_id=batch_id))
    if as_json:
        for each in found:
            print_json(each.raw)
        return
    _table(("id", "url", "events", "state", "description"), [_row(each) for each in found])


@webhooks_app.command("edit")
def edit(
    webhook_id: WebhookArgument,
    *,
    url: Annotated[str | None, typer.Option("--url", help="Where events are sent from now on.")] = None,
    event: Events = None,
    all_events: Annotated[bool, typer.Option("--all-events", help="Let it hear of everything.")] = False,
    description: Annotated[str | None, typer.Option("--description", help="For people.")] = None,
    enable: Annotated[bool | None, typer.Option("--enable/--disable", help="Switch it on, or off.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a webhook, switch it off or on."""
    if event and all_events:
        raise CliError(
            "--event and --all-events exclude each other", action="Give one of them.", exit_code=ExitCode.USAGE
        )
    wanted = [] if all_events else event or None
    with connect() as client:
        made = client.edit_webhook(webhook_id, url=url, event_types=wanted, description=description, is_enabled=enable)
    if as_json:
        print_json(made.raw)
    else:
        say(f"Changed {clean(made.id)}.")


@webhooks_app.command("rotate")
def rotate(webhook_id: WebhookArgument, as_json: AsJson = False) -> None:
    """Give a webhook a new secret, and print it; for a day the one before signs too."""
    with connect() as client:
        made = client.rotate_webhook(webhook_id)
    if as_json:
        print_json(made.raw)
    else:
        _show_secret(made)


@webhooks_app.command("test")
def try_it(webhook_id: WebhookArgument, as_json: AsJson = False) -> None:
    """Send a test event now, and say what is wrong."""
    with connect() as client:
        tested = client.test_webhook(webhook_id)
    if as_json:
        print_json(tested.raw)
    elif tested.ok:
        say(f"{webhook_id} took the event ({tested.took_ms:.0f} ms).", "green")
    if not tested.ok:
        raise CliError(
            clean(tested.message), action="Check the receiver, and the address with `ingather webhooks list`."
        )


@webhooks_app.command("delete")
def delete(webhook_id: WebhookArgument, as_json: AsJson = False) -> None:
    """Forget a webhook, its secret and its log."""
    with connect() as client:
        client.delete_webhook(webhook_id)
    if as_json:
        print_json({"webhook_id": webhook_id, "deleted": True})
    else:
        say(f"Deleted {webhook_id}.")


@webhooks_app.command("deliveries")
def deliveries(
    webhook_id: WebhookArgument,
    *,
    status: Annotated[str | None, typer.Option("--status", help="pending, succeeded or failed.")] = None,
    event: Annotated[str | None, typer.Option("--event", metavar="TYPE", help="Of this type alone.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what was sent to a webhook, newest first."""
    with connect() as client:
        found = list(client.deliveries(webhook_id, status=status, event_type=event, limit=limit))
    if as_json:
        for each in found:
            print_json(each.raw)
        return
    columns = ("id", "event", "status", "attempts", "last answer", "next attempt", "created at")
    _table(columns, [_delivery_row(each) for each in found])


@webhooks_app.command("redeliver")
def redeliver(
    webhook_id: WebhookArgument,
    delivery_id: Annotated[str, typer.Argument(metavar="DELIVERY", help="What was sent before.")],
    as_json: AsJson = False,
) -> None:
    """Send an event again, under its own event id; the new delivery's id is the data."""
    with connect() as client:
        again = client.redeliver(webhook_id, delivery_id)
    if as_json:
        print_json(again.raw)
    else:
        print_line(clean(again.id))


def _show_secret(made: Webhook) -> None:
    if made.secret is None:
        say("Its secret was shown when it was made; `ingather webhooks rotate` makes a new one.", "yellow")
        return
    say("Its secret, shown this once; receivers verify with it:")
    print_line(clean(made.secret))


def _row(webhook: Webhook) -> tuple[str, ...]:
    state = "on" if webhook.is_enabled else f"off ({webhook.disabled_reason})"
    return webhook.id, webhook.url, " ".join(webhook.event_types) or "all", state, webhook.description


def _delivery_row(delivery: Delivery) -> tuple[str, ...]:
    last = delivery.attempts[-1] if delivery.attempts else {}
    answer = last.get("error") or last.get("status_code") or ""
    moments = (str(delivery.raw.get(name) or "") for name in ("next_attempt_at", "created_at"))
    return delivery.id, delivery.event_type, delivery.status, str(len(delivery.attempts)), str(answer), *moments


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = plain_table(*columns)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(clean(cell) for cell in row))
    console.show(table)
