"""Numbers that others published, as their tables have them, for the suites and in the names of our cases."""

from __future__ import annotations

from benchmarks.printed import PSF, Published, by_image, by_level, by_type, figure

IMAGES = 48
"""In the mixed test set of FMD (Zhang et al. 2019): 12 types × 4 captures."""

NOISY: dict[str, tuple[float, ...]] = {
    "Confocal_BPAE_B": (31.99, 34.83, 37.53, 40.61, 42.13),
    "Confocal_BPAE_G": (28.43, 31.34, 33.99, 37.03, 40.87),
    "Confocal_BPAE_R": (33.00, 36.06, 38.15, 40.95, 43.47),
    "Confocal_FISH": (22.86, 25.90, 29.07, 32.33, 36.23),
    "Confocal_MICE": (29.36, 32.44, 35.57, 38.91, 42.69),
    "TwoPhoton_BPAE_B": (24.2,),
    "TwoPhoton_BPAE_G": (25.3,),
    "TwoPhoton_BPAE_R": (30.8,),
    "TwoPhoton_MICE": (24.87, 27.72, 30.96, 33.52, 37.45),
    "WideField_BPAE_B": (25.6,),
    "WideField_BPAE_G": (23.88, 26.96, 30.13, 33.48, 37.40),
    "WideField_BPAE_R": (26.2,),
}
"""PSNR in dB of the noisy images, mean of the four captures of a type, per level as far as it is known."""

_FMD = "FMD benchmark, 48 images"
_INS = "INS paper, table 1"
_INS_FMD = "INS paper, table 1, 48 images"
_GUO = "Guo et al. 2025"
_GUO_FMD = "Guo et al. 2025, 48 images"
_B2U = "Blind2Unblind paper, table 4, 50 frames of one view"
_B2U_TYPES = ("Confocal_FISH", "Confocal_MICE", "TwoPhoton_MICE")
_IDDP = "IDDP paper, table 3, mean of 120 images at five levels"
_KIM_POLYU = "Kim et al. 2022, table 3"
_LINR_POLYU = "LINR paper, table 14, 1000 steps, SSIM with a range of 2"
_KODAK = ("kodak24 gauss25", "kodak24 poisson30")


def _camera(suite: str, text: str) -> tuple[Published, ...]:
    """A column of the INS paper's table 1."""
    names = ("BM3D", "DIP", "Self2Self", "PD-denoising", "NN+denoiser", "ScoreDVI", "MASH", "INS")
    ours, words = {"BM3D": "bm3d-vst", "INS": "sampling"}, text.split()
    return tuple(by_type(n, _INS, (suite,), w, ours.get(n, "")) for n, w in zip(names, words, strict=True))


def _iddp(name: str, text: str, label: str = "") -> Published:
    return Published(name, _IDDP, {PSF(0): figure(text)}, label)


_SR = {"Bicubic": "bicubic", "Nearest": "nearest", "DIP": "", "LINR": "linr"}
_JOINT = {"DIP": "", "LINR": "linr"}
LINR: dict[str, tuple[Published, ...]] = {
    "linr-denoise": by_image(
        "LINR paper, table 1", "gauss25", {"DIP": "", "Self2Self": "", "LINR": "linr"},
        """
        baboon 19.68/0.502 20.29/0.581 23.67/0.794
        f16 25.27/0.871 24.14/0.880 30.36/0.916
        house 28.34/0.887 24.31/0.851 23.10/0.580
        lena 26.72/0.851 25.31/0.861 30.27/0.896
        peppers 24.78/0.813 24.34/0.823 29.46/0.860
        kodim01 22.19/0.624 22.40/0.711 25.99/0.818
        kodim02 27.83/0.834 26.21/0.829 29.66/0.866
        kodim03 27.63/0.869 24.77/0.860 30.40/0.903
        kodim12 27.47/0.858 24.93/0.864 30.34/0.892
        mean 25.55/0.790 24.08/0.807 28.14/0.836
        """,
    ),
    "linr-sr": (
        *by_image(
            "LINR paper, table 13", "x2", _SR,
            """
            baby 36.02 32.64 26.63 32.87
            bird 35.56 30.53 26.15 36.86
            butterfly 26.59 23.43 24.63 28.82
            head 31.67 30.54 27.18 31.08
            woman 31.34 27.75 25.56 32.75
            mean 32.24 28.98 26.03 32.48
            """,
        ),
        *by_image(
            "LINR paper, table 2", "x4", _SR,
            """
            baby 30.73/0.916 27.76/0.875 26.40/0.827 31.20/0.921
            bird 28.44/0.917 25.22/0.851 25.57/0.797 30.48/0.944
            butterfly 21.18/0.797 18.85/0.725 22.68/0.857 24.29/0.898
            head 29.08/0.841 27.79/0.811 26.58/0.768 29.58/0.854
            woman 25.39/0.885 22.90/0.827 24.28/0.837 27.44/0.924
            mean 26.96/0.871 24.50/0.818 25.10/0.817 28.60/0.908
            """,
        ),
        *by_image(
            "LINR paper, table 12", "x8", _SR,
            """
            baby 26.14 24.03 24.53 27.32
            bird 23.30 21.48 22.30 24.07
            butterfly 16.85 15.67 18.16 18.66
            head 26.99 25.50 25.18 27.48
            woman 21.25 19.60 21.09 22.43
            mean 22.91 21.26 22.25 23.99
            """,
        ),
    ),
    "linr-inpaint": by_image(
        "LINR paper, table 3", "10%", {"DIP": "", "Self2Self": "", "LINR": "linr"},
        """
        kate 25.87/0.893 22.60/0.841 31.78/0.956
        baby 25.99/0.826 24.36/0.802 29.27/0.903
        bird 24.88/0.800 21.78/0.736 28.21/0.922
        butterfly 20.59/0.827 18.04/0.706 21.05/0.853
        head 26.53/0.770 22.94/0.743 26.39/0.775
        woman 23.53/0.840 20.35/0.747 24.41/0.892
        mean 24.57/0.826 21.68/0.763 26.85/0.884
        """,
    ),
    "linr-deblur": by_image(
        "LINR paper, table 4", "gauss1.6", {"DIP": "", "DeepRED": "", "LINR": "linr"},
        """
        leaves 28.15 29.85 30.10
        parrots 30.03 31.30 32.84
        starfish 28.99 30.08 31.78
        butterfly 28.96 30.15 30.07
        mean 29.03 30.35 31.20
        """,
    ),
    "linr-joint": (
        *by_image(
            "LINR paper, table 5", "x4+noise", _JOINT,
            """
            baby 25.96/0.823 31.80/0.927
            bird 25.74/0.804 33.28/0.962
            butterfly 23.32/0.873 28.89/0.950
            head 26.63/0.772 30.07/0.864
            woman 23.63/0.833 30.86/0.955
            mean 25.06/0.821 30.98/0.932
            """,
        ),
        *by_image(
            "LINR paper, table 6", "10%+noise", _JOINT,
            """
            kate 25.93/0.893 33.41/0.964
            f16 25.52/0.871 31.08/0.942
            peppers 25.01/0.825 30.62/0.891
            house 28.29/0.890 29.00/0.843
            baboon 19.47/0.502 24.05/0.813
            lena 26.78/0.852 31.49/0.919
            kodim01 22.03/0.624 25.71/0.807
            kodim02 28.10/0.838 29.66/0.871
            kodim03 27.48/0.869 30.98/0.914
            kodim12 27.55/0.857 30.55/0.896
            mean 25.62/0.802 29.65/0.886
            """,
        ),
        *by_image(
            "LINR paper, table 7", "x4+10%", _JOINT,
            """
            baby 25.83/0.821 31.57/0.924
            bird 25.02/0.797 32.58/0.962
            butterfly 23.14/0.869 26.36/0.934
            head 26.30/0.766 29.71/0.861
            woman 24.33/0.847 29.47/0.948
            mean 24.92/0.820 29.94/0.926
            """,
        ),
    ),
}  # fmt: skip
"""The tables of the LINR paper (Xu & Jiao 2023), where every method has 500 steps, 4000 when deblurring."""

PUBLISHED: dict[str, tuple[Published, ...]] = {
    "fmd": (
        by_level("noisy", _FMD, "27.22 30.08 32.86 36.03 39.70", "noisy"),
        by_level(
            "INR", "Kim et al. 2022, table 2, images not stated",
            "34.01/0.809 36.83/0.863 39.76/0.903 40.01/0.968 41.56/0.977", "inr",
        ),
        by_level("VST + BM3D", _FMD, "32.71 34.09 36.05 38.01 40.60", "bm3d-vst"),
        by_level("VST + NLM", _FMD, "31.25 32.85 34.92 37.09 40.04"),
        by_level("PURE-LET", _FMD, "31.95 33.49 35.29 37.25 39.59"),
        by_level("Noise2Noise U-Net (supervised)", _FMD, "34.70 35.54 37.06 38.60 40.35"),
        by_level("BM3D", _INS_FMD, "30.06/0.771"),
        by_level("DIP", _INS_FMD, "32.90/0.854"),
        by_level("Self2Self", _INS_FMD, "30.76/0.695"),
        by_level("ScoreDVI", _INS_FMD, "33.10/0.865"),
        by_level("MASH", _INS_FMD, "33.71/0.882"),
        by_level("INS", _INS_FMD, "33.95/0.885", "sampling"),
        by_level("ZS-N2N", _GUO_FMD, "31.65/0.767"),
        by_level("Pixel2Pixel", _GUO_FMD, "33.26/0.830"),
        by_level("NLR", _GUO_FMD, "33.47/0.882"),
    ),
    "fmd-b2u": (
        by_type("Blind2Unblind", _B2U, _B2U_TYPES, "32.74/0.897 38.44/0.964 34.03/0.916", "blind2unblind"),
        by_type("U-Net, clean truth", _B2U, _B2U_TYPES, "32.79/0.905 38.40/0.966 34.02/0.925"),
        by_type("Noise2Noise", _B2U, _B2U_TYPES, "32.75/0.903 38.37/0.965 33.80/0.923"),
        by_type("BM3D", _B2U, _B2U_TYPES, "32.16/0.886 37.93/0.963 33.83/0.924", "bm3d-vst"),
        by_type("Noise2Void", _B2U, _B2U_TYPES, "32.08/0.886 37.49/0.960 33.38/0.916"),
        by_type("Neighbor2Neighbor", _B2U, _B2U_TYPES, "32.11/0.890 37.07/0.960 33.40/0.921"),
    ),
    "fmd-iddp": (
        _iddp("IDDP", "37.81/0.951", "iddp"),
        _iddp("BM3D", "35.43/0.932", "bm3d-vst"),
        _iddp("Neighbor2Neighbor", "37.52/0.944"),
        _iddp("Blind2Unblind", "37.60/0.946", "blind2unblind"),
        _iddp("Noise2Noise", "38.01/0.953"),
        _iddp("U-Net (supervised)", "38.15/0.955"),
    ),
    "polyu": (
        *_camera(
            "polyu",
            "37.40/0.953 37.17/0.912 37.52/0.926 37.04/0.940 37.66/0.956 37.77/0.959 37.62/0.932 37.88/0.959",
        ),
        by_type("INR", _KIM_POLYU, ("polyu",), "37.71", "inr"),
        by_type("CBM3D", _KIM_POLYU, ("polyu",), "36.98"),
        by_type("DIP", _KIM_POLYU, ("polyu",), "36.95"),
        by_type("LINR", _LINR_POLYU, ("polyu",), "37.12/0.979", "linr"),
        by_type("DIP", _LINR_POLYU, ("polyu",), "36.07/0.968"),
        by_type("Self2Self", _LINR_POLYU, ("polyu",), "32.42/0.954"),
    ),
    "cc": _camera(
        "cc",
        "35.19/0.858 35.61/0.912 36.63/0.932 35.85/0.923 36.52/0.943 37.09/0.945 36.87/0.935 37.20/0.948",
    ),
    "sidd": _camera("sidd", "25.65/0.475 32.11/0.740 29.46/0.595 33.97/0.820 - 34.75/0.856 35.06/0.851 35.31/0.868"),
    "awgn": (
        by_type("Blind2Unblind", "its paper, table 2", ("set12 gauss25",), "30.09/0.854", "blind2unblind"),
        by_type("U-Net, clean truth", "Blind2Unblind paper, table 2", ("set12 gauss25",), "30.07/0.852"),
        by_type("R2R", "Blind2Unblind paper, table 2", ("set12 gauss25",), "30.06/0.851"),
        by_type("Blind2Unblind", "its paper, table 1", _KODAK, "32.27/0.880 31.64/0.871", "blind2unblind"),
        by_type("INS", _GUO, _KODAK, "23.55", "sampling"),
        by_type("MASH", _GUO, _KODAK, "24.29"),
        by_type("Self2Self", _GUO, _KODAK, "28.39"),
        by_type("NLR", _GUO, _KODAK, "29.12"),
        by_type("Pixel2Pixel", _GUO, _KODAK, "29.31"),
        *by_image(
            "Kim et al. 2022, table 1, mean of 5 levels of their own", "set9 gauss0-25",
            {"DIP": "", "Noise2Void": "", "Noise2Self": "", "Noise2Fast": "", "Self2Self": "", "INR": "inr"},
            """
            house 33.51 33.72 34.82 33.88 34.98 33.94
            f16 35.75 34.73 35.32 35.71 35.86 37.35
            peppers 31.32 30.82 31.37 31.42 31.77 31.78
            baboon 28.76 25.38 26.83 26.86 27.27 28.76
            lena 34.36 33.24 33.87 34.36 34.26 36.36
            kodim01 29.83 27.39 29.02 30.31 33.47 35.16
            kodim02 33.38 32.84 32.92 33.40 35.42 35.89
            kodim03 34.75 33.06 34.21 36.10 37.89 39.22
            kodim12 35.27 33.84 33.89 34.98 35.31 35.88
            """,
        ),
    ),
    **LINR,
}  # fmt: skip
"""By suite. PSNR in dB, by the suite's protocol as far as the source says."""
