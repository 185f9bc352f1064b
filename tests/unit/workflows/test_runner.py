"""Which data converters workflows can be run with."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverter,
    ExternalStorage,
    PayloadCodec,
    StorageDriver,
    WithSerializationContext,
)

from ingather.models.errors import ConfigurationError
from workflows.runner import require_no_context


class OneKey(PayloadCodec):
    """Treats every payload alike."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


class KeyOfTheWorkflow(OneKey, WithSerializationContext):
    """Picks a key by the workflow that a payload belongs to."""

    def with_context(self, context):
        return self


class OtherFailures(DefaultFailureConverter):
    """Says failures in words of its own."""


class Drawer(StorageDriver):
    """Keeps payloads elsewhere, below the workflow they belong to."""

    def name(self):
        return "drawer"

    async def store(self, context, payloads):
        raise NotImplementedError

    async def retrieve(self, context, claims):
        raise NotImplementedError


@pytest.mark.parametrize(
    "converter", [pydantic_data_converter, replace(pydantic_data_converter, payload_codec=OneKey())]
)
def test_what_treats_every_payload_alike_is_fine(converter):
    """The plain converter, also with a codec that compresses or encrypts with one key."""
    require_no_context(converter)


@pytest.mark.parametrize(
    ("converter", "wanting"),
    [
        (replace(pydantic_data_converter, payload_codec=KeyOfTheWorkflow()), "payload codec KeyOfTheWorkflow"),
        (replace(pydantic_data_converter, external_storage=ExternalStorage(drivers=[Drawer()])), "external storage"),
        (replace(pydantic_data_converter, failure_converter_class=OtherFailures), "failure converter OtherFailures"),
        (DataConverter.default, "payload converter DefaultPayloadConverter"),
    ],
)
def test_what_asks_whose_a_payload_is_is_refused(converter, wanting):
    """It would get no answer, and go wrong without a word."""
    with pytest.raises(ConfigurationError, match=wanting) as refused:
        require_no_context(converter)
    assert "workflows/runner.py" in refused.value.action
