"""The token shapes that every run masks."""

from __future__ import annotations

import yaml

from tailrace.core.shapes import load_shapes
from tailrace.settings import Masking, Settings
from tailrace.worker.shapes import load_all_shapes, shipped_file


def test_the_shipped_shapes_are_read_as_an_operators_would_be() -> None:
    """They aren't checked at each start, so they are here: one by one, with every rule."""
    checked = load_shapes(yaml.safe_load(shipped_file().read_bytes()), "configs/masking.yaml")
    assert load_all_shapes(Settings()) == checked


def test_shapes_of_the_settings_come_behind_the_shipped_ones_or_alone() -> None:
    """As ``masking.shapes`` says."""
    own = {"ours": "our_[a-z]{20,}"}
    both = load_all_shapes(Settings(masking=Masking(patterns=own)))
    alone = load_all_shapes(Settings(masking=Masking(shapes=False, patterns=own)))
    assert [shape.name for shape in alone] == ["ours"]
    assert both[-1:] == alone
    assert len(both) > 60
