import numpy as np
import pytest
from helpers import noisy, wait_until_idle

from napari_pristine.errors import SettingError

pytestmark = pytest.mark.gui


def test_a_layer_is_the_psf_of_the_panel(qtbot, viewer, open_panel):
    cells = viewer.add_image(noisy((64, 64)), name="cells")
    bead = viewer.add_image(np.exp(-(np.hypot(*np.mgrid[-6:7, -6:7]) ** 2) / 4).astype(np.float32), name="bead")
    viewer.layers.selection.active = cells
    panel = open_panel(viewer, "linr")
    panel.form.refresh()
    panel.form.settings.set_values({"blur": "file"})
    assert "choose a layer or a file as PSF" in panel.form.description.text()
    panel.form.settings.psf_select.layer_box.choose(bead)
    assert "PSF" not in panel.form.description.text()
    panel.run()
    wait_until_idle(qtbot, panel)
    result = viewer.layers[-1]
    assert len(result.metadata["pristine"]["recipe"]["inputs"]["psf"]["sha256"]) == 64
    with pytest.raises(SettingError, match="'bead' is not saved"):
        panel.form.recipe_for_files()
