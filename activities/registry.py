"""Which activities run on which task queue."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from activities.accounting import AccountingActivities
from activities.handoff import HandoffActivities
from activities.index import IndexActivities
from activities.ingest import IngestActivities
from activities.manifest import ManifestActivities
from activities.pack import PackActivities
from activities.places import PlaceActivities
from activities.records import RecordActivities
from activities.sheet_intake import SheetIntakeActivities
from activities.sheet_results import SheetResultActivities
from activities.sheets import SheetActivities
from activities.texts import TextActivities
from activities.uploads import UploadActivities
from activities.webhooks import WebhookActivities
from ingather.models.engine import CPU_QUEUE, IO_QUEUE, MANIFEST_QUEUE, SOURCE_QUEUE, TEXT_QUEUE, WEBHOOK_QUEUE

Activity = Callable[..., Any]


@dataclass(frozen=True)
class ActivityClasses:
    """One instance of each, with its ports inside."""

    ingest: IngestActivities
    packs: PackActivities
    accounting: AccountingActivities
    handoff: HandoffActivities
    manifest: ManifestActivities
    index: IndexActivities
    records: RecordActivities
    places: PlaceActivities
    webhooks: WebhookActivities
    texts: TextActivities
    uploads: UploadActivities
    sheet_intake: SheetIntakeActivities
    sheets: SheetActivities
    sheet_results: SheetResultActivities


def build_activities(classes: ActivityClasses) -> dict[str, list[Activity]]:
    """Bound activity methods by task queue."""
    return {
        CPU_QUEUE: [
            classes.ingest.ingest_document,
            classes.packs.ingest_pack,
            classes.accounting.account_for_document,
            classes.accounting.account_for_pack,
            classes.handoff.hand_on_document,
            classes.handoff.hand_on_pack,
            classes.sheet_intake.read_sheet_codes,
            classes.sheets.process_sheet,
            classes.sheets.process_sheet_pack,
        ],
        MANIFEST_QUEUE: [
            classes.manifest.build_manifest,
            classes.sheet_intake.extract_sheets,
            classes.sheet_intake.organize_sheets,
        ],
        SOURCE_QUEUE: [
            classes.ingest.ingest_document,
            classes.accounting.account_for_document,
            classes.handoff.hand_on_document,
        ],
        TEXT_QUEUE: [classes.texts.process_text],
        IO_QUEUE: [
            # Scheduled here by versions before there was a queue for it.
            classes.manifest.build_manifest,
            classes.manifest.read_manifest,
            classes.index.index_documents,
            classes.records.finish_batch,
            classes.records.reopen_batch,
            classes.records.reset_documents,
            classes.records.record_controls,
            classes.sheet_results.collect_sheets,
            classes.sheet_results.write_sheet_csv,
            classes.sheet_results.load_sheets,
            classes.sheet_results.clean_up_sheets,
            classes.sheet_results.conclude_sheets,
            classes.places.request_place,
            classes.places.check_holders,
            classes.webhooks.tell_news,
            classes.uploads.clean_uploads,
        ],
        WEBHOOK_QUEUE: [classes.webhooks.attempt_delivery],
    }
