"""How workflows are run: sandboxed, with our own modules passed through instead of imported again."""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions


def sandboxed_runner() -> SandboxedWorkflowRunner:
    """Models and activity stubs are safe to share and slow to import once per workflow."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(
            "ingather", "activities", "pydantic", "pydantic_core", "annotated_types", "structlog"
        )
    )
