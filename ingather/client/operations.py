"""How a front end comes by its methods: each is a call of ``calls``, sent. What it takes and answers is written there."""

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from ingather.client.calls import Call, Download, Listing, PageWalk

P = ParamSpec("P")
T = TypeVar("T")


class Sender(Protocol):
    """What sends calls and waits for each answer."""

    def send(self, call: Call[T]) -> T: ...

    def pieces(self, download: Download) -> Iterator[bytes]: ...


class AsyncSender(Protocol):
    """What sends calls and lets others work meanwhile."""

    async def send(self, call: Call[T]) -> T: ...

    def pieces(self, download: Download) -> AsyncIterator[bytes]: ...


class HasSession(Protocol):
    @property
    def session(self) -> Sender: ...


class HasAsyncSession(Protocol):
    @property
    def session(self) -> AsyncSender: ...


class Operation(Generic[P, T]):
    """A method made of a function that builds its call: the same parameters, and the same docstring."""

    def __init__(self, build: Callable[P, T]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def _named(self, method: Callable[P, Any]) -> Callable[P, Any]:
        return functools.update_wrapper(method, self.build)


# --- Waiting for each answer ----------------------------------------------------------------


class Sends(Operation[P, Call[T]]):
    """One request, one answer."""

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: HasSession, owner: type[Any]) -> Callable[P, T]: ...
    def __get__(self, client: HasSession | None, owner: type[Any]) -> Self | Callable[P, T]:
        if client is None:
            return self

        def send(*given: P.args, **named: P.kwargs) -> T:
            return client.session.send(self.build(*given, **named))

        return self._named(send)


class Lists(Operation[P, Listing[T]]):
    """A list, page by page as it is read."""

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: HasSession, owner: type[Any]) -> Callable[P, Iterator[T]]: ...
    def __get__(self, client: HasSession | None, owner: type[Any]) -> Self | Callable[P, Iterator[T]]:
        if client is None:
            return self

        def items(*given: P.args, **named: P.kwargs) -> Iterator[T]:
            walk = PageWalk(self.build(*given, **named))
            while walk.call is not None:
                yield from walk.take(client.session.send(walk.call))

        return self._named(items)


class Downloads(Operation[P, Download]):
    """An answer as it arrives."""

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: HasSession, owner: type[Any]) -> Callable[P, Iterator[bytes]]: ...
    def __get__(self, client: HasSession | None, owner: type[Any]) -> Self | Callable[P, Iterator[bytes]]:
        if client is None:
            return self

        def pieces(*given: P.args, **named: P.kwargs) -> Iterator[bytes]:
            return client.session.pieces(self.build(*given, **named))

        return self._named(pieces)


# --- Letting others work meanwhile ----------------------------------------------------------


class AsyncSends(Operation[P, Call[T]]):
    """One request, one answer."""

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: HasAsyncSession, owner: type[Any]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, client: HasAsyncSession | None, owner: type[Any]) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        if client is None:
            return self

        async def send(*given: P.args, **named: P.kwargs) -> T:
            return await client.session.send(self.build(*given, **named))

        return self._named(send)


class AsyncLists(Operation[P, Listing[T]]):
    """A list, page by page as it is read."""

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: HasAsyncSession, owner: type[Any]) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, client: HasAsyncSession | None, owner: type[Any]) -> Self | Callable[P, AsyncIterator[T]]:
        if client is None:
            return self

        async def items(*given: P.args, **named: P.kwargs) -> AsyncIterator[T]:
            walk = PageWalk(self.build(*given, **named))
            while walk.call is not None:
                for item in walk.take(await client.session.send(walk.call)):
                    yield item

        return self._named(items)


class AsyncDownloads(Operation[P, Download]):
    """An answer as it arrives."""

    @overload
    def __get__(self, client: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, client: HasAsyncSession, owner: type[Any]) -> Callable[P, AsyncIterator[bytes]]: ...
    def __get__(self, client: HasAsyncSession | None, owner: type[Any]) -> Self | Callable[P, AsyncIterator[bytes]]:
        if client is None:
            return self

        def pieces(*given: P.args, **named: P.kwargs) -> AsyncIterator[bytes]:
            return client.session.pieces(self.build(*given, **named))

        return self._named(pieces)
