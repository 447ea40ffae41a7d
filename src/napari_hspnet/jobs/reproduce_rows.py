"""The rows of the paper's tables, what of them cannot be had and why, and what goes beyond."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from napari_hspnet.errors import InputError
from napari_hspnet.jobs.judging import GAUSS, PLAIN, Way
from napari_hspnet.training.loss_terms import LossTerm
from napari_hspnet.training.paper_rows import (
    TABLE_2,
    TABLE_3,
    TABLE_4,
    TABLE_5,
    FoldRow,
    PaperRow,
)

__all__ = ["TABLES", "Lacking", "PaperTable", "TableRow", "Trained", "table_named"]

_ALL = (True,) * 5


@dataclass(frozen=True)
class Trained:
    """A network that is trained, once for all tables that have it.

    Attributes
    ----------
    key : str
        For folders; unique.
    title : str
        For tables.
    network : str
        A family of `networks.FAMILIES`.
    encoder : str
        At full size.
    loss : tuple of LossTerm
    blocks : tuple of bool
        DS-Blocks of HSP-Net.
    window_aware : bool
        Whether dilations fit the patches; see `networks.dilations`.
    adamw : bool
        AdamW with one cycle instead of the paper's SGD.
    """

    key: str
    title: str
    network: str = "hspnet"
    encoder: str = "resnet101"
    loss: tuple[LossTerm, ...] = (LossTerm("ce"),)
    blocks: tuple[bool, ...] = _ALL
    window_aware: bool = False
    adamw: bool = False


@dataclass(frozen=True)
class TableRow:
    """A row to fill.

    Attributes
    ----------
    model : Trained
    way : Way
        How it is judged.
    paper : PaperRow or FoldRow or None
        The paper's figures.
    note : str
        How ours differs from what stands in the paper.
    """

    model: Trained
    way: Way = PLAIN
    paper: PaperRow | FoldRow | None = None
    note: str = ""


@dataclass(frozen=True)
class Lacking:
    """What a table of the paper has and we do not.

    Attributes
    ----------
    rows : tuple
        The paper's.
    why : str
    """

    rows: tuple[PaperRow | FoldRow, ...]
    why: str


@dataclass(frozen=True)
class PaperTable:
    """A table to reproduce.

    Attributes
    ----------
    name, title : str
    rows : tuple of TableRow
    reference : int
        The row that others are compared with, patient by patient.
    lacking : tuple of Lacking
    folds : bool
        Whether it is a cross-validation.
    """

    name: str
    title: str
    rows: tuple[TableRow, ...]
    reference: int
    lacking: tuple[Lacking, ...] = ()
    folds: bool = False


def _paper(table: tuple[PaperRow, ...], network: str, loss: str, post: bool = False) -> PaperRow:
    (row,) = (r for r in table if (r.network, r.loss, r.post) == (network, loss, post))
    return row


_AE = "our reconstruction ae_r; the paper's AE-Loss is not public"
_AE_R = (LossTerm("ae_r"),)

_CE101 = Trained("hspnet-resnet101-ce", "HSP-Net, ResNet-101, CE")
_AE101 = replace(_CE101, key="hspnet-resnet101-ae_r", title="HSP-Net, ResNet-101, ae_r", loss=_AE_R)
_CE34 = Trained("hspnet-resnet34-ce", "HSP-Net, ResNet-34, CE", encoder="resnet34")
_NONE, _FOUR, _FIFTH = (
    replace(_CE101, key=f"hspnet-resnet101-ce-ds-{key}", title=title, blocks=blocks)
    for key, title, blocks in (
        ("none", "HSP-Net, ResNet-101, CE, no DS-Block", (False,) * 5),
        ("1-4", "HSP-Net, ResNet-101, CE, DS-Blocks 1-4", (*_ALL[:4], False)),
        ("5", "HSP-Net, ResNet-101, CE, DS-Block 5", (*(False,) * 4, True)),
    )
)
_CDW, _EMD, _WASSERSTEIN = (
    replace(_CE101, key=f"hspnet-resnet101-{key}", title=f"HSP-Net, ResNet-101, {title}", loss=loss)
    for key, title, loss in (
        ("cdw_ce", "CDW-CE", (LossTerm("cdw_ce"),)),
        ("squared_emd", "CE + squared EMD", (LossTerm("ce"), LossTerm("squared_emd"))),
        (
            "wasserstein_dice",
            "CE + Wasserstein Dice",
            (LossTerm("ce"), LossTerm("wasserstein_dice")),
        ),
    )
)
_DEEPLAB_CE = Trained(
    "deeplabv3plus-resnet101-ce", "DeepLab v3+, ResNet-101, CE", "deeplabv3plus_full"
)
_DEEPLAB_AE = replace(
    _DEEPLAB_CE,
    key="deeplabv3plus-resnet101-ae_r",
    title="DeepLab v3+, ResNet-101, ae_r",
    loss=_AE_R,
)
_UNET = Trained("unet-resnet101-ce", "U-Net, ResNet-101, CE", "unet")
_UNETPP = Trained("unetpp-resnet101-ce", "UNet++, ResNet-101, CE", "unetpp")
_FCN32, _FCN16 = (
    Trained(f"{key}-vgg16-ce", f"{title}, VGG-16, CE", key, "vgg16")
    for key, title in (("fcn32s", "FCN-32s"), ("fcn16s", "FCN-16s"))
)
_AWARE = replace(
    _CE101,
    key="hspnet-resnet101-ce-window-aware",
    title="HSP-Net, ResNet-101, CE, window-aware dilations",
    window_aware=True,
)
_ADAMW = replace(
    _CE101,
    key="hspnet-resnet101-ce-adamw",
    title="HSP-Net, ResNet-101, CE, AdamW with one cycle",
    adamw=True,
)

_FCN_NOTE = "the form with the paper's 18.64 M parameters; which one it used is not said"
_DEEPLAB_NOTE = (
    "segmentation-models-pytorch, with full convolutions: the paper's 59.34 M parameters; "
    "whether it is the paper's network is not said"
)
_UNET_NOTE = (
    "segmentation-models-pytorch's, with HSP-Net's encoder; the paper's has 31.03 M parameters "
    "and so another encoder"
)

_DC = (
    "TriUpSegNet is trained with DC-Loss: its formula is in no source that we could obtain, so "
    "neither is shipped"
)


def _rows_of(*networks: str) -> tuple[PaperRow, ...]:
    return tuple(row for row in TABLE_5 if row.network in networks)


_TABLE_5_LACKING = (
    Lacking(_rows_of("TriUpSegNet-A", "TriUpSegNet-B"), _DC),
    Lacking(
        _rows_of("Ensemble-A", "Ensemble-B", "Ensemble-C"),
        "ensembles: which networks each has and how their answers are joined is in no source that "
        "we hold",
    ),
    Lacking(
        _rows_of("HookNet"),
        "it needs a second, wider picture around each patch at a lower magnification; MTCHI's "
        "regions are cut out, with black around them, and no library at hand has the network",
    ),
    Lacking(
        _rows_of("ENS-UNet", "Res-UNet"),
        "neither in segmentation-models-pytorch nor in torchvision; several networks go by such "
        "names, and which one was meant is in no source that we hold",
    ),
    Lacking(
        _rows_of("SegNet", "UNet 3+"),
        "neither in segmentation-models-pytorch nor in torchvision",
    ),
)

_P = GAUSS

TABLES: Mapping[str, PaperTable] = MappingProxyType(
    {
        table.name: table
        for table in (
            PaperTable(
                "table2",
                "Table 2: four-fold cross-validation",
                (
                    TableRow(_DEEPLAB_CE, PLAIN, TABLE_2[0], _DEEPLAB_NOTE),
                    TableRow(_CE101, PLAIN, TABLE_2[1]),
                    TableRow(_AE101, _P, TABLE_2[4], _AE),
                ),
                1,
                (Lacking(TABLE_2[2:4], _DC),),
                folds=True,
            ),
            PaperTable(
                "table3",
                "Table 3: without some of the DS-Blocks",
                (
                    TableRow(_NONE, PLAIN, TABLE_3[0]),
                    TableRow(_FOUR, PLAIN, TABLE_3[1]),
                    TableRow(_FIFTH, PLAIN, TABLE_3[2]),
                    TableRow(_CE101, PLAIN, TABLE_3[3]),
                ),
                3,
            ),
            PaperTable(
                "table4",
                "Table 4: encoders and losses",
                (
                    TableRow(_CE34, PLAIN, TABLE_4[0]),
                    TableRow(_CE101, PLAIN, TABLE_4[1]),
                    TableRow(_AE101, PLAIN, TABLE_4[2], _AE),
                    TableRow(_CDW, note="not in the paper"),
                    TableRow(_EMD, note="not in the paper"),
                    TableRow(_WASSERSTEIN, note="not in the paper"),
                ),
                1,
            ),
            PaperTable(
                "table5",
                "Table 5: networks",
                (
                    TableRow(_FCN32, PLAIN, _paper(TABLE_5, "FCN32s", "CE"), _FCN_NOTE),
                    TableRow(_UNET, PLAIN, _paper(TABLE_5, "U-Net", "CE"), _UNET_NOTE),
                    TableRow(_FCN16, PLAIN, _paper(TABLE_5, "FCN16s", "CE"), _FCN_NOTE),
                    TableRow(_UNETPP, note="not in the paper; segmentation-models-pytorch's"),
                    TableRow(
                        _DEEPLAB_CE, PLAIN, _paper(TABLE_5, "DeepLab v3+", "CE"), _DEEPLAB_NOTE
                    ),
                    TableRow(_DEEPLAB_AE, PLAIN, _paper(TABLE_5, "DeepLab v3+", "AE"), _AE),
                    TableRow(_CE101, PLAIN, TABLE_4[1], "the paper has it in Table 4"),
                    TableRow(_AE101, PLAIN, _paper(TABLE_5, "HSP-Net", "AE"), _AE),
                    TableRow(_AE101, _P, _paper(TABLE_5, "HSP-Net", "AE", True), _AE),
                ),
                7,
                _TABLE_5_LACKING,
            ),
            PaperTable(
                "beyond",
                "Beyond the paper: dilations, blending, optimiser",
                (
                    TableRow(_CE101, _P),
                    TableRow(_AWARE, _P),
                    TableRow(_ADAMW, _P, note="rates 0.001 and a tenth, weight decay 0.01: ours"),
                    TableRow(_CE101, PLAIN, TABLE_4[1]),
                    TableRow(_CE101, Way(1 / 4, 1 / 16)),
                    TableRow(_CE101, Way(1 / 4, 1 / 4)),
                    TableRow(_CE101, Way(1 / 2, 1 / 8)),
                    TableRow(_CE101, Way(1 / 8, 1 / 8)),
                ),
                0,
            ),
        )
    }
)
"""All tables by name."""


def table_named(name: str) -> PaperTable:
    """The table of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in TABLES:
        raise InputError(f"there is no table {name!r}", advice=f"Choose one of {', '.join(TABLES)}")
    return TABLES[name]
