"""Being told at once that the server was asked to stop.

uvicorn closes WebSockets with a code of its own a tenth of a second after the signal; what it hears first is ours.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType


def on_termination(callback: Callable[[], None]) -> None:
    """Have ``callback`` run on this event loop as soon as a signal to stop comes; whoever handled it goes on doing so."""
    if threading.current_thread() is not threading.main_thread():
        return  # signals reach the main thread alone
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)

        def handle(told: int, frame: FrameType | None, before: object = before) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(callback)
            if callable(before):
                before(told, frame)

        if callable(before):  # somebody runs this server; without, a signal ends the process as it always did
            signal.signal(number, handle)
