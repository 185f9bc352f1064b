"""Names that the API, the workers and Temporal must agree on."""

from datetime import timedelta

WORKFLOW_QUEUE = "ingather-workflows"
IO_QUEUE = "ingather-io"
MANIFEST_QUEUE = "ingather-manifests"
"""Unpacking archives may take hours: on a queue of their own, manifests hold up no index, report or place."""
WEBHOOK_QUEUE = "ingather-webhooks"
"""Requests to receivers that may take their time: on a queue of their own, they hold up nothing."""
CPU_QUEUE = "ingather-cpu"
SOURCE_QUEUE = "ingather-sources"
"""Documents that are fetched first: one that waits for a slow source keeps no slot of those whose bytes are here."""
TEXT_QUEUE = "ingather-texts"
"""A language model is waited for, a minute and longer: on a queue of its own, texts hold up no document."""

ROLES: dict[str, tuple[str, ...]] = {
    "workflows": (WORKFLOW_QUEUE,),
    "io": (IO_QUEUE, MANIFEST_QUEUE, WEBHOOK_QUEUE, TEXT_QUEUE),
    "cpu": (CPU_QUEUE, SOURCE_QUEUE),
}
"""The task queues of each role a worker process may take."""

BATCH_WORKFLOW = "BatchWorkflow"
CHUNK_WORKFLOW = "ChunkWorkflow"
"""Child of a large batch: runs up to 1,000 of its documents."""
CHILD_QUIET = "child_quiet"
"""Signal of a paused child to its parent."""

PLACES_WORKFLOW = "PlacesWorkflow"
"""One a tenant: its places and the line of batches that wait for one."""
PLACES_ASK = "ask"
PLACES_RELEASE = "release"
"""Signals to the line."""
PLACE_GRANTED = "place_granted"
"""Signal to a batch."""

WEBHOOK_DELIVERY_WORKFLOW = "WebhookDeliveryWorkflow"
"""One event on its way to one endpoint."""
UPLOAD_CLEANING_WORKFLOW = "UploadCleaningWorkflow"
"""Started by a schedule."""

MEMO_PROGRESS = "progress"
"""Memo field: a ``BatchProgress`` without its in-flight list, for ``describe()`` when no worker answers."""
MEMO_LINE = "line"
"""Memo field of the places: a ``PlacesLine``, so that a batch's position needs no worker."""

SEARCH_ATTRIBUTES: dict[str, str] = {
    "TenantId": "Keyword",
    "BatchState": "Keyword",
    "Pipeline": "Keyword",
    "CreatedBy": "Keyword",
    "DocumentsTotal": "Int",
    "DocumentsFailed": "Int",
}
"""Custom search attributes and their Temporal types; registered by the stack and by docker-compose."""

MANIFEST_PAGE_SIZE = 1_000

PACK_DOCUMENTS = 16
"""Small documents that may share one activity."""
PACKABLE_BYTES = 64 * 1024
"""A document may share an activity up to this size."""
LARGE_BYTES = 1_000_000
"""A document of this size may take as long as all others of its batch: it begins before its turn."""
MOST_LARGE_BYTES = 32_000_000
"""A larger one has its turn: a worker lends bytes in the order of asking, and all others would wait behind a few of these."""

WORKFLOW_TASK_TIMEOUT = timedelta(seconds=3)
"""How long a worker may think about what happens next in a batch; one that was killed while it did is waited for so
long. It takes milliseconds. A replay that takes longer gets its time: the server adds to it from the fourth try on."""
HEARTBEAT_TIMEOUT = timedelta(seconds=6)
"""Silence after which an attempt is given up and the next one begins: what a killed worker costs its documents. Six
beats may be late or lost before that happens to a worker that is merely busy."""
HEARTBEAT_THROTTLE = timedelta(seconds=1)
"""The SDK waits 0.8 x the timeout unless told otherwise, and cancellation travels with heartbeats."""

FETCH_SECONDS = 540
"""What a connected source may take for one file."""

LONGEST_MODEL_SECONDS = 600
"""What a language model may be given for one answer."""
TEXT_CALLS = 2
"""Requests to a model in one attempt at a text: the second where the answer to the first has to be put right."""

READING_SECONDS = 2 * 3_600
"""What a language model may take to read a document: some hundred requests, a few at a time, among those of other documents."""
