"""Any value that a setting allows, for properties that hold for all of them."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st

from napari_pristine import METHODS
from napari_pristine.settings import Setting, settings_of

TUNABLE = [(key, s) for key, method in METHODS.items() for s in settings_of(method.params)]
TEXTS: dict[str, st.SearchStrategy[str]] = {
    "psf_file": st.text(),
    "also": st.lists(st.sampled_from(["b.tif", "my b.tif finer=2", "c.npy blur=gaussian blur_width=2.5"])).map(
        "; ".join
    ),
}
"""What a setting that is a text may hold; a new one has to be added here."""


@st.composite
def allowed_values(draw: st.DrawFn, declared: Setting) -> Any:
    """Any value that a setting's declaration allows."""
    if declared.optional and draw(st.booleans()):
        return None
    if declared.choices:
        return draw(st.sampled_from(declared.choices))
    if declared.type is bool:
        return draw(st.booleans())
    bounds = declared.bounds
    low, high = bounds.get("ge", bounds.get("gt", -1e6)), bounds.get("le", bounds.get("lt", 1e6))
    if declared.type is int:
        return draw(st.integers(int(low), int(high)))
    if declared.type is str:
        return draw(TEXTS[declared.name])
    assert declared.type is float
    return draw(st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds))
