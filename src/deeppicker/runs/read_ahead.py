"""Read the files of the next few micrographs while others are being picked. No torch."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator

from deeppicker.core import MicrographEntry
from deeppicker.formats.text import is_file

_BLOCK = 1 << 20  # bytes


def read_ahead(entries: Iterable[MicrographEntry], number: int = 4) -> Iterator[MicrographEntry]:
    """Yield the entries, while the files of the next few are read in the background.

    They come into the memory in which the operating system keeps what it has read, so that no worker on this machine
    waits for the disk.
    """
    source, ahead = iter(entries), deque[MicrographEntry]()
    wanted, news, over = deque[MicrographEntry](), threading.Semaphore(0), threading.Event()

    def read() -> None:
        block = bytearray(_BLOCK)
        while news.acquire() and not over.is_set():
            try:
                path = wanted.popleft().path
                if not is_file(path):  # a pipe would hang whoever opens it
                    continue
                with path.open("rb", buffering=0) as file:
                    while file.readinto(block) and not over.is_set():
                        pass
            except OSError:
                continue  # whoever needs it will say so

    # It may hang with the file system, and nobody minds.
    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        while True:
            while len(ahead) < number and (entry := next(source, None)) is not None:
                ahead.append(entry)
                wanted.append(entry)
                news.release()
            if not ahead:
                return
            yield ahead.popleft()
    finally:
        over.set()
        news.release()
