"""A timeout that stands still while its run is paused, and that people may extend."""

from __future__ import annotations


class Deadline:
    """When something is over; ``now`` is in seconds, from a clock that never goes back.

    ``allowed_ms`` is what was allowed altogether, extensions included; None is
    no limit at all.
    """

    def __init__(self, allowed_ms: int | None, now: float) -> None:
        self.allowed_ms = allowed_ms
        self._at = None if allowed_ms is None else now + allowed_ms / 1000
        self._paused_at: float | None = None

    def pause(self, now: float) -> None:
        """Stand still from now on."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """Go on; what was paused doesn't count."""
        if self._paused_at is not None and self._at is not None:
            self._at += now - self._paused_at
        self._paused_at = None

    def extend(self, by_ms: int) -> bool:
        """Allow so much more; False where there is no limit."""
        if self._at is None or self.allowed_ms is None:
            return False
        self._at += by_ms / 1000
        self.allowed_ms += by_ms
        return True

    def left_s(self, now: float) -> float | None:
        """Return the seconds that are left, 0 when it is over; None where nothing will end them."""
        if self._at is None or self._paused_at is not None:
            return None
        return max(self._at - now, 0.0)
