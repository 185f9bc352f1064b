"""What a process leaves of the processors to others."""

import contextlib
import os
from pathlib import Path
from typing import Final

_NICEST: Final = 19


def own_niceness() -> int:
    """Of this process."""
    return os.getpriority(os.PRIO_PROCESS, 0)


def set_niceness(pid: int, niceness: int) -> bool:
    """Set the niceness of a process that leads a session, 19 at the most; whether it counts now.

    Linux may share the processors out by session (``sched_autogroup_enabled``, on in the kernels of most
    distributions, though not inside containers). The niceness of a process then counts inside its session only, where
    it is alone, so the session gets the same. See ``sched(7)``, "The autogroup feature". Without privileges one
    session in the whole system may change a tenth of a second, so False asks for another try.

    A process, unlike a session, takes privileges to be made less nice than it is: without them it stays so.
    """
    niceness = min(niceness, _NICEST)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except BlockingIOError:
        return False
    except OSError:
        pass  # There is no such feature, or no such process any more.
    return True
