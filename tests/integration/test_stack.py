"""The embedded stack's servers, supervised and real."""

import asyncio

import boto3
import redis.asyncio
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from ingather.models.engine import SEARCH_ATTRIBUTES
from ingather.stack.s3 import S3Server


async def test_temporal_knows_our_search_attributes(temporal_address: str) -> None:
    """A workflow can be started with our search attributes as soon as the server counts as ready."""
    client = await Client.connect(temporal_address)
    answer = await client.operator_service.list_search_attributes(ListSearchAttributesRequest(namespace="default"))
    assert set(SEARCH_ATTRIBUTES) <= set(answer.custom_attributes)


async def test_s3_keeps_objects_under_its_own_credentials(s3_server: S3Server) -> None:
    """The bucket exists and takes objects when the server counts as ready."""

    def put_and_get() -> bytes:
        client = boto3.client(
            "s3",
            endpoint_url=s3_server.endpoint_url,
            region_name=s3_server.region,
            aws_access_key_id=s3_server.access_key_id,
            aws_secret_access_key=s3_server.secret_access_key,
        )
        client.put_object(Bucket=s3_server.bucket, Key="a/b", Body=b"content")
        content = client.get_object(Bucket=s3_server.bucket, Key="a/b")["Body"].read()
        client.close()
        return content

    assert await asyncio.to_thread(put_and_get) == b"content"


async def test_redis_answers_with_its_password(redis_url: str) -> None:
    """Redis is loaded and takes the generated password when it counts as ready."""
    async with redis.asyncio.from_url(redis_url) as client:
        assert await client.ping()
