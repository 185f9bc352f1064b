"""The vocabulary: frozen models, enums and errors that every other part speaks in.

Nothing here imports more than the standard library and Pydantic, so a workflow
can use all of it inside Temporal's sandbox.
"""
