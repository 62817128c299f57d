"""Results that others published, as their tables print them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

LEVELS = (1, 2, 4, 8, 16)  # noise levels of the FMD data set: the number of frames that were averaged


class TableCell(NamedTuple):
    """The subject of a published score.

    A score belongs to one image; to the mean of a type (no image); to the mean of all types (neither); or to the mean
    of all types and levels (level 0).
    """

    level: int = 1
    type: str = ""
    image: str = ""


class Score(NamedTuple):
    """PSNR in dB, and SSIM where it was published."""

    psnr: float
    ssim: float | None = None

    def __str__(self) -> str:
        return f"{self.psnr:.2f}" if self.ssim is None else f"{self.psnr:.2f} / {self.ssim:.3f}"

    @classmethod
    def parse(cls, text: str) -> Score:
        """Read `"30.73"` or `"30.73/0.916"`."""
        psnr, _, ssim = text.partition("/")
        return cls(float(psnr), float(ssim) if ssim else None)


@dataclass(frozen=True)
class PublishedResult:
    """One method in one published table."""

    method: str  # its name in the publication
    source: str  # the publication and table
    scores: Mapping[TableCell, Score]
    counterpart: str = ""  # our method or baseline that does the same, if there is one

    def text(self, cell: TableCell) -> str:
        """Format the score of a cell; empty if none was published."""
        return str(self.scores[cell]) if cell in self.scores else ""


def _line(method: str, source: str, cells: Iterable[TableCell], text: str, counterpart: str = "") -> PublishedResult:
    """Read a line of scores, one for each cell; `-` stands for none."""
    scores = {cell: Score.parse(word) for cell, word in zip(cells, text.split(), strict=False) if word != "-"}
    return PublishedResult(method, source, scores, counterpart)


def _types(*types: str) -> tuple[TableCell, ...]:
    return tuple(TableCell(1, kind) for kind in types)


def _by_image(source: str, kind: str, methods: Mapping[str, str], text: str) -> tuple[PublishedResult, ...]:
    """Read a table with a row for each image and a column for each method.

    Args:
        source: The publication and table.
        kind: Type of the images.
        methods: Published name of each column → our counterpart.
        text: The table; the row `mean` is the mean of all images.
    """
    rows = [line.split() for line in text.strip().splitlines()]
    cells = [TableCell(1, kind, "" if row[0] == "mean" else row[0]) for row in rows]
    return tuple(
        _line(method, source, cells, " ".join(row[column] for row in rows), counterpart)
        for column, (method, counterpart) in enumerate(methods.items(), start=1)
    )


FMD_IMAGES = 48  # images in the mixed test set of FMD (Zhang et al. 2019): 12 types × 4 captures

FMD_NOISY: dict[str, tuple[float, ...]] = {
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
"""PSNR in dB of the noisy images of FMD: mean of the four captures of a type, one value per level where published."""

_FMD = "FMD benchmark, 48 images"
_INS = "INS paper, table 1"
_INS_FMD = "INS paper, table 1, 48 images"
_GUO = "Guo et al. 2025"
_GUO_FMD = "Guo et al. 2025, 48 images"
_B2U = "Blind2Unblind paper, table 4, 50 frames of one view"
_B2U_TYPES = _types("Confocal_FISH", "Confocal_MICE", "TwoPhoton_MICE")
_LEVELS, _ALL = tuple(TableCell(level) for level in LEVELS), (TableCell(0),)
_IDDP = "IDDP paper, table 3, mean of 120 images at five levels"
_KIM_POLYU = "Kim et al. 2022, table 3"
_LINR_POLYU = "LINR paper, table 14, 1000 steps, SSIM with a range of 2"
_SET12, _KODAK = _types("set12 gauss25"), _types("kodak24 gauss25", "kodak24 poisson30")


def _camera(suite: str, text: str) -> tuple[PublishedResult, ...]:
    """Read one column of table 1 of the INS paper."""
    methods = ("BM3D", "DIP", "Self2Self", "PD-denoising", "NN+denoiser", "ScoreDVI", "MASH", "INS")
    counterparts = {"BM3D": "bm3d-vst", "INS": "sampling"}
    columns = zip(methods, text.split(), strict=True)
    return tuple(_line(method, _INS, _types(suite), word, counterparts.get(method, "")) for method, word in columns)


_SR = {"Bicubic": "bicubic", "Nearest": "nearest", "DIP": "", "LINR": "linr"}
_JOINT = {"DIP": "", "LINR": "linr"}
_LINR: dict[str, tuple[PublishedResult, ...]] = {
    "linr-denoise": _by_image(
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
        *_by_image(
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
        *_by_image(
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
        *_by_image(
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
    "linr-inpaint": _by_image(
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
    "linr-deblur": _by_image(
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
        *_by_image(
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
        *_by_image(
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
        *_by_image(
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
"""Tables of the LINR paper (Xu & Jiao 2023), in which each method takes 500 steps, or 4000 to deblur."""

PUBLISHED: dict[str, tuple[PublishedResult, ...]] = {
    "fmd": (
        _line("noisy", _FMD, _LEVELS, "27.22 30.08 32.86 36.03 39.70", "noisy"),
        _line(
            "INR", "Kim et al. 2022, table 2, images not stated", _LEVELS,
            "34.01/0.809 36.83/0.863 39.76/0.903 40.01/0.968 41.56/0.977", "inr",
        ),
        _line("VST + BM3D", _FMD, _LEVELS, "32.71 34.09 36.05 38.01 40.60", "bm3d-vst"),
        _line("VST + NLM", _FMD, _LEVELS, "31.25 32.85 34.92 37.09 40.04"),
        _line("PURE-LET", _FMD, _LEVELS, "31.95 33.49 35.29 37.25 39.59"),
        _line("Noise2Noise U-Net (supervised)", _FMD, _LEVELS, "34.70 35.54 37.06 38.60 40.35"),
        _line("BM3D", _INS_FMD, _LEVELS, "30.06/0.771"),
        _line("DIP", _INS_FMD, _LEVELS, "32.90/0.854"),
        _line("Self2Self", _INS_FMD, _LEVELS, "30.76/0.695"),
        _line("ScoreDVI", _INS_FMD, _LEVELS, "33.10/0.865"),
        _line("MASH", _INS_FMD, _LEVELS, "33.71/0.882"),
        _line("INS", _INS_FMD, _LEVELS, "33.95/0.885", "sampling"),
        _line("ZS-N2N", _GUO_FMD, _LEVELS, "31.65/0.767"),
        _line("Pixel2Pixel", _GUO_FMD, _LEVELS, "33.26/0.830"),
        _line("NLR", _GUO_FMD, _LEVELS, "33.47/0.882"),
    ),
    "fmd-b2u": (
        _line("Blind2Unblind", _B2U, _B2U_TYPES, "32.74/0.897 38.44/0.964 34.03/0.916", "blind2unblind"),
        _line("U-Net, clean truth", _B2U, _B2U_TYPES, "32.79/0.905 38.40/0.966 34.02/0.925"),
        _line("Noise2Noise", _B2U, _B2U_TYPES, "32.75/0.903 38.37/0.965 33.80/0.923"),
        _line("BM3D", _B2U, _B2U_TYPES, "32.16/0.886 37.93/0.963 33.83/0.924", "bm3d-vst"),
        _line("Noise2Void", _B2U, _B2U_TYPES, "32.08/0.886 37.49/0.960 33.38/0.916"),
        _line("Neighbor2Neighbor", _B2U, _B2U_TYPES, "32.11/0.890 37.07/0.960 33.40/0.921"),
    ),
    "fmd-iddp": (
        _line("IDDP", _IDDP, _ALL, "37.81/0.951", "iddp"),
        _line("BM3D", _IDDP, _ALL, "35.43/0.932", "bm3d-vst"),
        _line("Neighbor2Neighbor", _IDDP, _ALL, "37.52/0.944"),
        _line("Blind2Unblind", _IDDP, _ALL, "37.60/0.946", "blind2unblind"),
        _line("Noise2Noise", _IDDP, _ALL, "38.01/0.953"),
        _line("U-Net (supervised)", _IDDP, _ALL, "38.15/0.955"),
    ),
    "polyu": (
        *_camera(
            "polyu",
            "37.40/0.953 37.17/0.912 37.52/0.926 37.04/0.940 37.66/0.956 37.77/0.959 37.62/0.932 37.88/0.959",
        ),
        _line("INR", _KIM_POLYU, _types("polyu"), "37.71", "inr"),
        _line("CBM3D", _KIM_POLYU, _types("polyu"), "36.98"),
        _line("DIP", _KIM_POLYU, _types("polyu"), "36.95"),
        _line("LINR", _LINR_POLYU, _types("polyu"), "37.12/0.979", "linr"),
        _line("DIP", _LINR_POLYU, _types("polyu"), "36.07/0.968"),
        _line("Self2Self", _LINR_POLYU, _types("polyu"), "32.42/0.954"),
    ),
    "cc": _camera(
        "cc",
        "35.19/0.858 35.61/0.912 36.63/0.932 35.85/0.923 36.52/0.943 37.09/0.945 36.87/0.935 37.20/0.948",
    ),
    "sidd": _camera("sidd", "25.65/0.475 32.11/0.740 29.46/0.595 33.97/0.820 - 34.75/0.856 35.06/0.851 35.31/0.868"),
    "awgn": (
        _line("Blind2Unblind", "its paper, table 2", _SET12, "30.09/0.854", "blind2unblind"),
        _line("U-Net, clean truth", "Blind2Unblind paper, table 2", _SET12, "30.07/0.852"),
        _line("R2R", "Blind2Unblind paper, table 2", _SET12, "30.06/0.851"),
        _line("Blind2Unblind", "its paper, table 1", _KODAK, "32.27/0.880 31.64/0.871", "blind2unblind"),
        _line("INS", _GUO, _KODAK, "23.55", "sampling"),
        _line("MASH", _GUO, _KODAK, "24.29"),
        _line("Self2Self", _GUO, _KODAK, "28.39"),
        _line("NLR", _GUO, _KODAK, "29.12"),
        _line("Pixel2Pixel", _GUO, _KODAK, "29.31"),
        *_by_image(
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
    **_LINR,
}  # fmt: skip
"""Published results of each suite. PSNR in dB, by the protocol of the suite as far as the source states one."""
