"""Any value that a setting allows, for properties that hold for all of them."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st

from napari_pristine import METHODS
from napari_pristine.methods.degradation import ExtraImage
from napari_pristine.settings import Setting, settings_of

TUNABLE = [(key, s) for key, method in METHODS.items() for s in settings_of(method.params)]
TEXTS = {"psf_file": st.text()}
"""What a setting that is a text may hold; a new one has to be added here."""
LISTS = {
    "extra_images": st.lists(
        st.builds(
            ExtraImage, file=st.sampled_from(["", "my b.tif"]), finer=st.integers(1, 4), blur_width=st.floats(0, 9)
        )
    ).map(tuple)
}
"""The same for lists."""


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
    if declared.type is list:
        return draw(LISTS[declared.name])
    assert declared.type is float
    return draw(st.floats(low, high, exclude_min="gt" in bounds, exclude_max="lt" in bounds))
