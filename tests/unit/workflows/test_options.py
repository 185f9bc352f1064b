"""One table of timeouts and retries, and what it must hold for a batch to outlive an outage."""

from datetime import timedelta

import pytest
from temporalio.workflow import ActivityCancellationType

from activities.accounting import AccountingActivities
from activities.handoff import HandoffActivities
from activities.index import IndexActivities
from activities.ingest import IngestActivities
from activities.manifest import ManifestActivities
from activities.pack import PackActivities
from activities.places import PlaceActivities
from activities.records import RecordActivities
from activities.registry import ActivityClasses, build_activities
from activities.sheet_intake import SheetIntakeActivities
from activities.sheet_results import SheetResultActivities
from activities.sheets import SheetActivities
from activities.texts import TextActivities
from activities.uploads import UploadActivities
from activities.webhooks import WebhookActivities
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.models.batch import ProcessingOptions
from ingather.models.engine import HEARTBEAT_THROTTLE, LONGEST_MODEL_SECONDS, READING_SECONDS, TEXT_CALLS
from worker import DOCUMENTS_PER_PARSER
from workflows.options import INDEX, MANIFEST, PAGE, RECORDS, fetched, ingest_options, text_options
from workflows.pipelines import PIPELINES

INGEST = ingest_options(ProcessingOptions())
ALL = {
    "ingest": INGEST,
    "text": text_options(ProcessingOptions()),
    "index": INDEX,
    "manifest": MANIFEST,
    "page": PAGE,
    "records": RECORDS,
}


def patience(policy):
    """How long all attempts of a policy take, when each fails at once; None without an end."""
    if not policy.maximum_attempts:
        return None
    waits = [
        min(policy.initial_interval * policy.backoff_coefficient ** min(n, 20), policy.maximum_interval)
        for n in range(policy.maximum_attempts - 1)
    ]
    return sum(waits, timedelta())


@pytest.mark.parametrize("options", [INGEST, INDEX], ids=["ingest", "index"])
def test_documents_outlive_an_outage_of_25_minutes(options):
    """Past that each fails with a code a retry can name, so that no batch hangs for ever."""
    assert timedelta(minutes=25) < patience(options["retry_policy"]) < timedelta(minutes=45)


@pytest.mark.parametrize("options", [MANIFEST, PAGE, RECORDS], ids=["manifest", "page", "records"])
def test_what_a_batch_cannot_end_without_is_tried_for_ever(options):
    """The report and the catalog's last word wait for whoever repairs what is broken."""
    assert patience(options["retry_policy"]) is None


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
def test_a_dead_worker_is_noticed(options):
    """By a missing heartbeat, after more than a few that were late and within seconds."""
    assert HEARTBEAT_THROTTLE * 5 < options["heartbeat_timeout"] <= timedelta(seconds=10)


@pytest.mark.parametrize("timeout_seconds", [1, 60, 3_600])
def test_time_in_line_for_a_parser_does_not_eat_the_attempt(timeout_seconds):
    """Every document ahead may take all its time, and its own parser may crash once."""
    options = ingest_options(ProcessingOptions(timeout_seconds=timeout_seconds))
    ahead = DOCUMENTS_PER_PARSER - 1
    assert options["start_to_close_timeout"].total_seconds() > (ahead + 2) * timeout_seconds


def test_an_attempt_at_a_text_outlives_the_models_own_time_out():
    """Also where the answer has to be put right once, and both take all the time a deployment may give them."""
    seconds = text_options(ProcessingOptions())["start_to_close_timeout"].total_seconds()
    assert seconds > TEXT_CALLS * LONGEST_MODEL_SECONDS


def test_reading_by_a_model_ends_before_its_attempt_does():
    """With all that goes before it and comes after."""
    read, plain = (ingest_options(ProcessingOptions(parsing_model=model)) for model in ("reads", None))
    assert read["start_to_close_timeout"] - plain["start_to_close_timeout"] >= timedelta(seconds=READING_SECONDS)


@pytest.mark.parametrize("name", sorted(ALL.keys() - {"page"}))
def test_what_writes_settles_before_a_cancel_is_answered(name):
    """Anything less leaves a zombie writing while the report is made; a page is only read."""
    assert ALL[name]["cancellation_type"] is ActivityCancellationType.WAIT_CANCELLATION_COMPLETED


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_runs_an_activity_that_workers_serve(name, activity_classes):
    """On the queues its options send it to: one for documents that are here, and one for those in a source."""
    options = PIPELINES[name].options(ProcessingOptions())
    queues = {options["task_queue"]}
    if PIPELINES[name].is_offered:
        queues.add(fetched(options)["task_queue"])
    served = [method.__name__ for queue in queues for method in build_activities(activity_classes)[queue]]
    assert served.count(PIPELINES[name].process_document.__name__) == len(queues)
    if (process_pack := PIPELINES[name].process_pack) is not None:
        assert process_pack.__name__ in served


@pytest.fixture
def activity_classes():
    return ActivityClasses(
        ingest=IngestActivities(None, None, None, None),
        packs=PackActivities(None, None, None, None),
        accounting=AccountingActivities(None, None),
        handoff=HandoffActivities(None, None, None, None),
        manifest=ManifestActivities(None, None, None, None),
        index=IndexActivities(None, None, None),
        records=RecordActivities(None, None),
        places=PlaceActivities(None, None),
        webhooks=WebhookActivities(None, None, None, None),
        texts=TextActivities(None, None, None, None),
        uploads=UploadActivities(
            None, None, InMemoryCatalog(), progress=None, lifetime=timedelta(hours=24), finish=None
        ),
        sheet_intake=SheetIntakeActivities(None, None, None, archives=None, limits=None, progress=None),
        sheets=SheetActivities(None, None, None, None, progress=None),
        sheet_results=SheetResultActivities(None, None, None, progress=None),
    )
