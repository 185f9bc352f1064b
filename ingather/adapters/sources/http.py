"""Files behind plain HTTP addresses: a list of them, or all below one."""

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote, unquote, urljoin, urlsplit

import httpx

from ingather.adapters.guarded_http import AddressRefusedError, check_url
from ingather.adapters.retry_after import moment
from ingather.adapters.sources.patience import Patience
from ingather.adapters.sources.web import (
    PASSING_STATUSES,
    WebSource,
    announced_bytes,
    passing,
    refused,
    whole_body,
)
from ingather.domain.filenames import shown
from ingather.domain.source_names import name_in_source
from ingather.models.connection_settings import HttpSettings
from ingather.models.errors import (
    DocumentError,
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceNotBrowsableError,
)
from ingather.models.source import SourceFile, SourceType
from ingather.ports.source import Download, SourcePage

_MOST_DECODINGS = 8
"""Of a path that is encoded again and again; nobody means one that is so more often."""


class HttpSource:
    """File ids are the listed addresses, or paths below the base address.

    Redirects are not followed: where they lead is checked by nobody.

    Raises:
        SourceAccessDeniedError: an address can be told to lead into a private network.
    """

    def __init__(self, settings: HttpSettings, *, allow_private: bool, patience: Patience) -> None:
        self._urls = settings.urls
        self._base = _folder(settings.base_url) if settings.base_url else None
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        try:
            for url in (*self._urls, *([self._base] if self._base else ())):
                check_url(url, allow_private=allow_private)
        except AddressRefusedError as error:
            raise refused(error) from error
        self._who = urlsplit(self._base or self._urls[0]).netloc
        self._web = WebSource(self._who, allow_private=allow_private, patience=patience)

    async def list_files(self, folder: str | None = None, *, cursor: str | None = None, limit: int = 100) -> SourcePage:
        """The listed addresses, in their order; nothing is asked of them."""
        if self._base is not None:
            raise SourceNotBrowsableError("What lies below an address cannot be listed: select files by their paths.")
        if folder:
            raise SourceFileNotFoundError("A list of addresses has no folders.")
        first = int(cursor) if cursor and cursor.isdecimal() else 0
        page = self._urls[first : first + limit]
        files = tuple(SourceFile(file_id=url, name=name_in_source(SourceType.HTTP, url)) for url in page)
        return SourcePage(files, str(first + limit) if first + limit < len(self._urls) else None)

    async def describe(self, file_id: str) -> SourceFile:
        async with self._web.opened(self._request("HEAD", file_id), self._judge(file_id, also={405, 501})) as response:
            if response.status_code < 400:
                return _file(file_id, response)
        async with self._web.opened(self._request("GET", file_id), self._judge(file_id)) as response:
            return _file(file_id, response)

    def download(self, file_id: str) -> AbstractAsyncContextManager[Download]:
        return self._download(file_id)

    async def check(self) -> None:
        if self._base is None:
            await self.describe(self._urls[0])
            return
        # That there is nothing to see at a base address says nothing about the files below it.
        judge = self._judge(self._base, also={403, 404, 405, 410, 501})
        async with self._web.opened(self._request("HEAD", ""), judge):
            return

    async def close(self) -> None:
        await self._web.close()

    @asynccontextmanager
    async def _download(self, file_id: str) -> AsyncIterator[Download]:
        async with self._web.opened(self._request("GET", file_id), self._judge(file_id)) as response:
            file = _file(file_id, response)
            yield Download(file, whole_body(response, self._who, file.size_bytes))

    def _request(self, method: str, file_id: str) -> "_Build":
        return _Build(self._web, method, self._url(file_id), self._headers)

    def _url(self, file_id: str) -> str:
        """Raises ``SourceFileNotFoundError``, and ``SourceAccessDeniedError`` for a path that leads elsewhere."""
        if self._base is None:
            if file_id not in self._urls:
                raise SourceFileNotFoundError(f"{_label(file_id)} is not in the connection's list of addresses.")
            return file_id
        below = file_id.removeprefix(self._base)
        url = urljoin(self._base, quote(below, safe="/%?&=+,;:@!$'()*~-._"))
        if _climbs(below) or not url.startswith(self._base):
            raise SourceAccessDeniedError(f"{_label(file_id)} does not lie below the connection's address.")
        return url

    def _judge(self, file_id: str, also: set[int] | None = None) -> "_Judge":
        return _Judge(self._who, file_id, frozenset(also or ()))


class _Build:
    def __init__(self, web: WebSource, method: str, url: str, headers: dict[str, str]) -> None:
        self._web, self._method, self._url, self._headers = web, method, url, headers

    async def __call__(self) -> httpx.Request:
        return self._web.client.build_request(self._method, self._url, headers=self._headers)


class _Judge:
    def __init__(self, who: str, file_id: str, also: frozenset[int]) -> None:
        self._who, self._file_id, self._also = who, file_id, also

    async def __call__(self, response: httpx.Response) -> DocumentError | None:
        status = response.status_code
        if status == 200 or status in self._also:
            return None
        if status in PASSING_STATUSES:
            return passing(self._who, response)
        if status in {404, 410}:
            return SourceFileNotFoundError(f"{self._who} has no {_label(self._file_id)} ({status}).")
        if status in {401, 403, 407}:
            return SourceAccessDeniedError(
                f"{self._who} refuses {_label(self._file_id)} ({status}): check the headers."
            )
        if 300 <= status < 400:
            return SourceAccessDeniedError(
                f"{self._who} redirects {_label(self._file_id)}, and redirects are not followed.",
                action="Name the address that it leads to.",
            )
        return SourceAccessDeniedError(f"{self._who} answered {_label(self._file_id)} with {status}.")


def _climbs(path: str) -> bool:
    """Whether some server on the way could read a path as one that leads up, or as more than a path.

    Which of them decodes how often, and what it takes for a separator, is not known here: every reading counts.
    """
    for _ in range(_MOST_DECODINGS):
        if any(map(_is_control, path)) or any(_is_dots(part) for part in re.split(r"[/\\]", path)):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded
    return True


def _is_dots(segment: str) -> bool:
    """Parameters (``..;x``) and spaces do not count: there are servers that drop them."""
    return segment.partition(";")[0].strip() in {".", ".."}


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character < "\xa0"


def _file(file_id: str, response: httpx.Response) -> SourceFile:
    media_type = response.headers.get("Content-Type", "").split(";")[0].strip()
    return SourceFile(
        file_id=file_id,
        name=name_in_source(SourceType.HTTP, file_id),
        size_bytes=announced_bytes(response),
        media_type=media_type[:255] or None,
        modified_at=moment(response.headers.get("Last-Modified", "")),
    )


def _label(file_id: str) -> str:
    """A file for a message: without the query, which may hold a signature."""
    return repr(shown(name_in_source(SourceType.HTTP, file_id)))


def _folder(url: str) -> str:
    return url if url.endswith("/") else f"{url}/"
