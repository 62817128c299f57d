"""`python -m benchmarks verdict`: how often faults planted into results are found, and honest results are suspected."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

FMD_LEVELS = (1, 4, 16)
_PLANES = {
    "calcium/sima_example.tif": ("TYX", 1),
    "cbmi_low_snr/CBMI_ER/001_frame_01_iter20L_01_h578_w415.tif": ("", 1),
    "cbmi_low_snr/CBMI_ER/003_frame_01_iter30L_04_h240_w143.tif": ("", 1),
    "cbmi_low_snr/CBMI_ER/006_frame_01_iter20L_02_h178_w150.tif": ("", 1),
    "composed/celegans_em_ZYX_21.tif": ("", 1),
    "composed/mitocheck_TYX_30.tif": ("", 2),
    "composed/mitosis_TZCYX_first4T.tif": ("", 4),
    "flim_intensity_2p_float32/noisy/BPAE1.tif": ("", 1),
    "livecell_noisy_725/A_0_0.tif": ("", 1),
    "livecell_noisy_725/N_0_0.tif": ("", 1),
    "lysosome_confocal_live_tyx/1.tif": ("TYX", 2),
    "neubias/xy_12bit__saturated_plant.tif": ("", 1),
    "neubias/xy_16bit__embryo_transmission.tif": ("", 1),
    "neubias/xy_8bit__nuclei_very_noisy.tif": ("", 1),
    "neubias/xy_8bit__nup.tif": ("", 1),
    "neubias/xy_calibrated_16bit__cells_eres_noisy.tif": ("", 1),
    "neubias/xyc_16bit__cell_dna_mts_actin.tif": ("", 3),
    "neubias/xyc_16bit__membranes_nuclei_hot_pixel.tif": ("", 2),
    "neubias/xyt_calibrated_16bit__golgi_bfa_sum_projection.tif": ("", 2),
    "neubias/xyz_nuclear_envelope_drosophila.tif": ("", 2),
    "neubias/xyzc_16bit__spots.tif": ("", 2),
    "pn2v_convallaria/20190520_tl_25um_50msec_05pc_488_130EM_Conv0000.tif": ("", 1),
    "single_noisy/FA_0488_Evolve.tiff": ("", 1),
    "stardist/img2d.tif": ("", 1),
}
