"""Masks a text that comes in pieces, as a model writes it: a secret may fall across several."""

from __future__ import annotations

import codecs
from typing import Final

from tailrace.core.mask import Masker

# Almost any letter is the first one of some token. People who read along would miss the last
# letters of every piece; what tokens begin with is no secret.
_SPARE: Final = 4  # bytes


class TextMasker:
    """The masker of one text. End it with `close`.

    What can be told is told at once; held back is only the end in which
    something to mask could have begun. All that `feed` and `close` return, put
    together, is the same for every way of cutting the text into pieces, but for
    tokens that nobody named as secrets: up to three bytes of one's beginning,
    which come with a piece of their own, stay (``ghp***``).
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def held(self) -> int:
        """Bytes held back."""
        return self._masker.held

    def feed(self, piece: str) -> str:
        """Take a piece; return what is decided, which may be nothing."""
        data = self._masker.feed(piece.encode("utf-8", "replace"))
        return self._decoder.decode(data + self._masker.flush(spare=_SPARE))

    def close(self) -> str:
        """Return the rest: the text has ended."""
        return self._decoder.decode(self._masker.close(), final=True)
