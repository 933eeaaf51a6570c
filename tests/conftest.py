"""What every test may use."""

from __future__ import annotations

from programs import require

__all__ = ["require"]
