"""Sources from connections: which adapter, with which settings, within what this deployment allows.

An adapter is imported when the first source of its kind is opened: most workers never open one.
"""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from ingather.adapters.sources.patience import FOR_BATCHES, Patience
from ingather.models.archive import ArchiveLimits
from ingather.models.connection_settings import (
    SETTINGS,
    ConnectionSettings,
    GoogleDriveSettings,
    HttpSettings,
    LocalDirectorySettings,
    LocalZipSettings,
    S3Settings,
)
from ingather.models.errors import SourceAccessDeniedError
from ingather.models.source import Connection
from ingather.ports.secret_box import SecretBox
from ingather.ports.source import Source

TENANT_IN_ROOT = "{tenant_id}"


class SourceOpener:
    """Opens any kind of source.

    Args:
        box: opens what credentials were sealed in.
        roots: folders of this machine that connections may lead into; ``{tenant_id}`` stands for a connection's tenant.
        archive_limits: of a ``local_zip``.
        allow_private: let connections lead to addresses that are not public.
        patience: how long a source behind HTTP is waited for.
    """

    def __init__(
        self,
        box: SecretBox,
        *,
        roots: Sequence[Path] = (),
        archive_limits: ArchiveLimits | None = None,
        allow_private: bool = False,
        patience: Patience = FOR_BATCHES,
    ) -> None:
        self._box = box
        self._roots = tuple(roots)
        self._archive_limits = archive_limits or ArchiveLimits()
        self._allow_private = allow_private
        self._patience = patience

    def open(self, connection: Connection) -> Source:
        hidden = self._box.open(connection.sealed, connection.owner) if connection.sealed else {}
        try:
            settings = SETTINGS[connection.source_type].model_validate({**connection.settings, **hidden})
        except ValidationError:
            # Without its text: it may quote a credential.
            raise SourceAccessDeniedError(
                "The connection's settings do not fit this version.", action="Create the connection anew."
            ) from None
        if isinstance(settings, LocalDirectorySettings | LocalZipSettings):
            roots = (Path(str(root).replace(TENANT_IN_ROOT, connection.tenant_id)) for root in self._roots)
            return self._local(settings, tuple(roots))
        return self._remote(settings)

    def _local(self, settings: LocalDirectorySettings | LocalZipSettings, roots: tuple[Path, ...]) -> Source:
        from ingather.adapters.sources.local_directory import LocalDirectorySource  # noqa: PLC0415
        from ingather.adapters.sources.local_zip import LocalZipSource  # noqa: PLC0415

        if isinstance(settings, LocalZipSettings):
            return LocalZipSource(settings, roots, self._archive_limits)
        return LocalDirectorySource(settings, roots)

    def _remote(self, settings: ConnectionSettings) -> Source:
        from ingather.adapters.sources.google_drive import GoogleDriveSource  # noqa: PLC0415
        from ingather.adapters.sources.http import HttpSource  # noqa: PLC0415
        from ingather.adapters.sources.s3 import S3Source  # noqa: PLC0415

        if isinstance(settings, S3Settings):
            return S3Source(settings, allow_private=self._allow_private, patience=self._patience)
        if isinstance(settings, HttpSettings):
            return HttpSource(settings, allow_private=self._allow_private, patience=self._patience)
        assert isinstance(settings, GoogleDriveSettings)  # there is no other kind
        return GoogleDriveSource(settings, allow_private=self._allow_private, patience=self._patience)
