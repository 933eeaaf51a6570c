"""The rules of masking: the secrets and shapes of a run, compiled in layers.

Secrets that a step tells later (`MaskRules.with_values`) come as layers with
databases of their own, merged like the digits of a binary counter, so that a
thousand of them cost no quadratic time, up to a size that compiles in a blink.
What the rules do to output is `tailrace.core.mask`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

from tailrace.core.chains import Chain
from tailrace.core.layers import REACH, Layer, shape_layer
from tailrace.core.mask import OPEN, Masker
from tailrace.core.needles import SHORTEST, chains_of, needles_of, trimmed
from tailrace.core.shapes import Shape

_MERGED: Final = 600  # needles of several late values that are compiled anew together: 0.1 s


class SecretTooShortError(ValueError):
    """A secret has fewer than `needles.SHORTEST` characters; ``name`` is its name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is shorter than {SHORTEST} characters, and masking it would destroy the log; "
            "use a longer value, or don't declare it as a secret"
        )
        self.name = name


def check_length(name: str, value: str) -> None:
    """Check that a secret can be masked.

    Raises:
        SecretTooShortError: it is shorter than four characters.
    """
    if not can_be_masked(value):
        raise SecretTooShortError(name)


def can_be_masked(value: str) -> bool:
    """Tell whether a secret is long enough: a shorter one would hide half the log."""
    return len(trimmed(value)) >= SHORTEST


class MaskRules:
    """What is masked in a run: secrets by name, and shapes on top of `always.ALWAYS`.

    Immutable, shared by all streams of the process; not to be shared between
    threads. Compiling takes 1 to 2 ms a secret; shapes take 100 to 170 ms, but
    once a process: ``MaskRules({}, shapes)`` beforehand saves the wait.

    Raises:
        SecretTooShortError: a secret is shorter than four characters.
        PatternError: a shape's pattern can't be read (`load_shapes` tells it better).
        ExpressionError: it is too large.
    """

    def __init__(
        self,
        secrets: Mapping[str, str],
        shapes: Sequence[Shape] = (),
        *,
        layers: tuple[Layer, ...] = (),  # what is compiled already; see `with_values`
    ) -> None:
        for name, value in secrets.items():
            check_length(name, value)
        self._layers = layers or (shape_layer(tuple(shapes)),)
        if secrets:
            self._layers += (_layer_of(secrets.values()),)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What was compiled together: secrets and shapes, then secrets that came later."""
        return self._layers

    @cached_property
    def reach(self) -> int:
        """A match that isn't whole yet has begun at most so many bytes ago."""
        return max(REACH, *(layer.longest for layer in self._layers))

    @property
    def most_held(self) -> int:
        """A masker holds back so many bytes at most."""
        return self.reach + OPEN

    @cached_property
    def reaches_over_lines(self) -> bool:
        """Some needle holds a line feed."""
        return any(layer.reaches_over_lines for layer in self._layers)

    def with_values(self, values: Iterable[str]) -> MaskRules:
        """Return rules that mask *values* too: secrets that a step told of later.

        Many at once cost less than one after the other: one takes up to 0.1 s,
        a thousand some 2 s.

        Raises:
            SecretTooShortError: one is shorter than four characters.
        """
        needles: set[bytes] = set()
        chains: dict[Chain, None] = {}
        for value in values:
            check_length("the value to mask", value)
            needles |= needles_of(value)
            chains |= dict.fromkeys(chains_of(value))
        for layer in self._layers:
            needles.difference_update(layer.needles)
            for chain in layer.chains:
                chains.pop(chain, None)
        if not needles and not chains:
            return self
        layers = list(self._layers)
        while (size := len(layers[-1].needles)) and size <= 2 * len(needles):
            if size + len(needles) > _MERGED:
                break
            merged = layers.pop()
            needles.update(merged.needles)
            chains |= dict.fromkeys(merged.chains)
        return MaskRules({}, layers=(*layers, Layer(needles, chains)))

    def mask_text(self, text: str) -> str:
        """Return one whole value with its secrets masked: a label, a command, a message.

        The very same object comes back where there is nothing to mask. What
        can't be UTF-8 becomes U+FFFD in a text that is changed.
        """
        masker = Masker(self)
        masked = masker.feed(_encoded(text)) + masker.close()
        return masked.decode("utf-8", "replace") if masker.masks else text

    def would_mask(self, text: str) -> bool:
        """Tell whether there is anything to mask in *text*."""
        masker = Masker(self)
        masker.feed(_encoded(text))
        masker.close()
        return masker.masks > 0


def _layer_of(secrets: Iterable[str]) -> Layer:
    needles: set[bytes] = set()
    chains: dict[Chain, None] = {}
    for secret in secrets:
        needles |= needles_of(secret)
        chains |= dict.fromkeys(chains_of(secret))
    return Layer(needles, chains)


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")  # names of files are such
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
