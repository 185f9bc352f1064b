"""How workflows are run: sandboxed, with our own modules passed through instead of imported again.

The SDK asks a workflow instance for the serialization context of every payload, three times
each way, and enters the sandbox for each question: a quarter of a busy worker's Python time.
Contexts matter to data converters that depend on one (encryption keyed by workflow id);
ours does not, and keeps no payload outside of history, so the answers are the SDK's own
words for "no context". A worker whose converter would want one does not start
(``require_no_context``).
"""

from collections.abc import Sequence
from typing import Any

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, StorageDriverStoreContext, WithSerializationContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from ingather.models.errors import ConfigurationError

PASSED_THROUGH = (
    "ingather",
    "activities",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "structlog",
)
"""Deterministic, or only named in a workflow and run elsewhere; slow to import once per workflow."""


class _ContextFreeInstance(WorkflowInstance):
    """A sandboxed workflow instance that is not asked for serialization contexts."""

    def __init__(self, inner: WorkflowInstance) -> None:
        self._inner = inner

    def activate(self, act: Any) -> Any:
        return self._inner.activate(act)

    def get_serialization_context(self, command_info: Any) -> None:  # noqa: ARG002  # the same answer for all
        return None

    def get_external_store_context(self, command_info: Any) -> StorageDriverStoreContext:  # noqa: ARG002  # as above
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Any:
        return self._inner.get_info()

    def get_thread_id(self) -> int | None:
        return self._inner.get_thread_id()


class _ContextFreeRunner(WorkflowRunner):
    def __init__(self, inner: WorkflowRunner) -> None:
        self._inner = inner

    def prepare_workflow(self, defn: Any) -> None:
        self._inner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _ContextFreeInstance(self._inner.create_instance(det))

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        self._inner.set_worker_level_failure_exception_types(types)


def sandboxed_runner() -> WorkflowRunner:
    """The runner of every worker and of replays."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    return _ContextFreeRunner(SandboxedWorkflowRunner(restrictions=restrictions))


def require_no_context(converter: DataConverter) -> None:
    """Raises ``ConfigurationError`` where a data converter depends on a context that our workflow instances do not give.

    A codec is fine that treats every payload alike, as one does that compresses, or encrypts with one key.
    """
    plain = pydantic_data_converter
    codec: object = converter.payload_codec  # a codec may have a context as its second base class
    if isinstance(codec, WithSerializationContext):
        wanting = f"the payload codec {type(codec).__name__}"
    elif converter.external_storage is not None:
        wanting = "external storage"
    elif converter.payload_converter_class is not plain.payload_converter_class:
        wanting = f"the payload converter {converter.payload_converter_class.__name__}"
    elif converter.failure_converter_class is not plain.failure_converter_class:
        wanting = f"the failure converter {converter.failure_converter_class.__name__}"
    else:
        return
    raise ConfigurationError(
        f"Temporal's client has {wanting}, which may depend on the workflow a payload belongs to; workers give it no"
        " such context, and it would silently get a wrong one.",
        action="Connect with the plain Pydantic data converter, or let workflows/runner.py answer with contexts.",
    )
