"""One signed PUT to the embedded S3. Importing boto3 for it would cost more than everything else `up` does."""

import hashlib
import hmac
from datetime import UTC, datetime

from ingather.stack.ports import LOOPBACK
from ingather.stack.probes import http_request


async def signed_put(port: int, path: str, *, region: str, access_key_id: str, secret_access_key: str) -> int:
    """Status of an empty PUT to ``path``, signed with AWS Signature Version 4."""
    host = f"{LOOPBACK}:{port}"
    now = datetime.now(UTC)
    day, moment = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"PUT\n{path}\n\nhost:{host}\nx-amz-content-sha256:{digest}\nx-amz-date:{moment}\n\n{names}\n{digest}"
    scope = f"{day}/{region}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret_access_key}".encode()
    for step in scope.split("/"):
        key = hmac.digest(key, step.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    credential = f"{access_key_id}/{scope}"
    headers = {
        "x-amz-content-sha256": digest,
        "x-amz-date": moment,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}",
        "Content-Length": "0",
    }
    status, _ = await http_request("PUT", port, path, headers)
    return status
