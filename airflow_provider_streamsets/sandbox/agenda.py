"""What is to happen at a time, without anyone asking for it then."""

from __future__ import annotations

from collections.abc import Callable


class Agenda:
    """Things to be done, each with its time; they are done when somebody looks, as if it had been in time."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, Callable[[int], object]]] = []

    def add(self, at: int, act: Callable[[int], object]) -> None:
        """Note something; when it is done it is told its time."""
        self._entries.append((at, act))
        self._entries.sort(key=lambda entry: entry[0])

    def catch_up(self, now: int) -> None:
        """Do all that is due."""
        while self._entries and self._entries[0][0] <= now:
            at, act = self._entries.pop(0)
            act(at)
