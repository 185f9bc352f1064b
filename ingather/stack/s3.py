"""SeaweedFS as the stack's S3: gateway, filer, volume and master in one process on loopback."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ingather.stack.binaries import WEED, find_binary
from ingather.stack.ports import LOOPBACK
from ingather.stack.private_files import write_private
from ingather.stack.probes import until
from ingather.stack.process import Command
from ingather.stack.signed_put import signed_put

REGION = "us-east-1"

_LISTENERS = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
PORTS = tuple(f"s3_{listener}" for listener in _LISTENERS)

_OPTIONS = (
    "-master.peers=none",  # a single master need not wait for others: one second less at start
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=1024",
    "-master.volumePreallocate=false",
    "-volume.max=0",  # as many volumes as the disk has room for
    "-volume.preStopSeconds=0",
    "-filer",
    "-s3",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)


@dataclass(frozen=True)
class S3Server:
    """A SeaweedFS server, keeping its state in ``directory``."""

    directory: Path
    log_path: Path
    ports: Mapping[str, int]
    access_key_id: str
    secret_access_key: str = field(repr=False)
    internal_key: str = field(repr=False)
    """Signs what gateway, filer and volume tell each other; without it anybody on the machine could read blobs."""
    bucket: str = "ingather"
    region: str = REGION
    name: str = "s3"
    # It answers SIGTERM by waiting 15 s for its own internal connections. A request that was
    # answered is in its files by then, so waiting longer wins nothing.
    grace_seconds: float = 1.0

    @property
    def endpoint_url(self) -> str:
        return f"http://{LOOPBACK}:{self.ports['s3_s3']}"

    def command(self) -> Command:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._write_security()
        self.clean_up()  # sockets of a run that was killed
        argv = [str(find_binary(WEED)), "-logtostderr=true", "server", f"-dir={data.resolve()}"]
        argv += [f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}", *_OPTIONS, f"-s3.config={self._write_identities()}"]
        for listener in _LISTENERS:
            part, _, kind = listener.partition(".")
            argv.append(f"-{part}.port{'.' + kind if kind else ''}={self.ports['s3_' + listener]}")
        return Command(self.name, tuple(argv), self.log_path, cwd=self.directory)

    def _write_security(self) -> None:
        """Found in the working directory, before any that the user or the machine has for other servers."""
        sections = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")
        text = "".join(
            f'[{section}]\nkey = "{self.internal_key}"\nexpires_after_seconds = 60\n' for section in sections
        )
        write_private(self.directory / "security.toml", text)

    def _write_identities(self) -> Path:
        path = self.directory / "identities.json"
        credentials = {"accessKey": self.access_key_id, "secretKey": self.secret_access_key}
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identity = {"name": "ingather", "credentials": [credentials], "actions": actions}
        write_private(path, json.dumps({"identities": [identity]}))
        return path.resolve()

    async def wait_ready(self, pid: int) -> None:  # noqa: ARG002 - part of the protocol
        """Ready when the bucket exists and takes an object: the first one makes the server create its volumes."""
        await until(lambda: self._put(f"/{self.bucket}", accepted=(200, 409)))  # 409: it exists already
        await until(lambda: self._put(f"/{self.bucket}/.ready", accepted=(200,)))

    async def _put(self, path: str, accepted: tuple[int, ...]) -> bool:
        status = await signed_put(
            self.ports["s3_s3"],
            path,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
        )
        return status in accepted

    def clean_up(self) -> None:
        """Its unix sockets, which it puts into /tmp under the ports' numbers and leaves there."""
        for listener in _LISTENERS:
            part, _, kind = listener.partition(".")
            name = f"seaweedfs-{part}{'-' + kind if kind else ''}-{self.ports['s3_' + listener]}.sock"
            (Path("/tmp") / name).unlink(missing_ok=True)  # noqa: S108 - its choice, not ours
