"""What the paper reports on MTCHI, to stand beside one's own figures."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TABLE_2", "TABLE_3", "TABLE_4", "TABLE_5", "FoldRow", "PaperRow"]


@dataclass(frozen=True)
class FoldRow:
    """A row of the paper's Table 2 (four folds of MTCHI).

    Attributes
    ----------
    network, loss : str
        As the paper calls them.
    post : bool
        Whether with its Gauss-like post-processing.
    dice, spread : float
        Over folds.
    """

    network: str
    loss: str
    post: bool
    dice: float
    spread: float

    @property
    def title(self) -> str:
        """For tables."""
        return f"{self.network} ({self.loss}{', post-processed' if self.post else ''})"


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Tables 3 to 5 (MTCHI's test part, no extra data).

    Attributes
    ----------
    network, loss : str
        As the paper calls them.
    parameters : float or None
        In millions; None where it is not said.
    post : bool
        Whether with its Gauss-like post-processing (section 4.5).
    dice, iou, accuracy : float
        Dice, mIoU, AP.
    """

    network: str
    parameters: float | None
    loss: str
    post: bool
    dice: float
    iou: float
    accuracy: float

    @property
    def title(self) -> str:
        """For tables."""
        how = ", post-processed" if self.post else ""
        size = "" if self.parameters is None else f"; {self.parameters:.2f} M"
        return f"{self.network} ({self.loss}{how}{size})"


TABLE_2 = (
    FoldRow("DeepLab v3+", "CE", False, 0.5033, 0.1218),
    FoldRow("HSP-Net", "CE", False, 0.5125, 0.1551),
    FoldRow("TriUpSegNet-A", "DC", True, 0.5321, 0.1473),
    FoldRow("TriUpSegNet-B", "DC", True, 0.5343, 0.1458),
    FoldRow("HSP-Net", "AE", True, 0.5416, 0.1681),
)
# The paper counts the parameters of the whole network with ResNet-101 alone.
TABLE_3 = (
    PaperRow("HSP-Net, no DS-Block", None, "CE", False, 0.5646, 0.4065, 0.5802),
    PaperRow("HSP-Net, DS-Blocks 1-4", None, "CE", False, 0.7029, 0.5599, 0.7152),
    PaperRow("HSP-Net, DS-Block 5", None, "CE", False, 0.7134, 0.5673, 0.7370),
    PaperRow("HSP-Net, all DS-Blocks", 69.70, "CE", False, 0.7390, 0.5998, 0.7533),
)
TABLE_4 = (
    PaperRow("HSP-Net, ResNet-34", None, "CE", False, 0.6845, 0.5421, 0.7004),
    PaperRow("HSP-Net, ResNet-101", 69.70, "CE", False, 0.7390, 0.5998, 0.7533),
    PaperRow("HSP-Net, ResNet-101", 69.70, "AE", False, 0.7517, 0.6150, 0.7646),
)
TABLE_5 = (
    PaperRow("FCN32s", 18.64, "CE", False, 0.3882, 0.2749, 0.4231),
    PaperRow("U-Net", 31.03, "CE", False, 0.4015, 0.2820, 0.4739),
    PaperRow("ENS-UNet", 34.18, "CE", False, 0.4195, 0.3039, 0.4811),
    PaperRow("FCN16s", 18.64, "CE", False, 0.4308, 0.3214, 0.4508),
    PaperRow("HookNet", 48.97, "CE", False, 0.4652, 0.3218, 0.4382),
    PaperRow("Res-UNet", 65.45, "CE", False, 0.5059, 0.3770, 0.5690),
    PaperRow("SegNet", 28.44, "CE", False, 0.5260, 0.4016, 0.6118),
    PaperRow("UNet 3+", 26.98, "CE", False, 0.5600, 0.4122, 0.5721),
    PaperRow("DeepLab v3+", 59.34, "CE", False, 0.6445, 0.5091, 0.6921),
    PaperRow("DeepLab v3+", 59.34, "AE", False, 0.7002, 0.5569, 0.7233),
    PaperRow("Ensemble-A", 59.35, "CE", False, 0.7060, 0.5626, 0.7362),
    PaperRow("Ensemble-B", 84.13, "CE", False, 0.7261, 0.5829, 0.7492),
    PaperRow("Ensemble-C", 84.13, "CE", False, 0.7321, 0.5910, 0.7477),
    PaperRow("HSP-Net", 69.70, "AE", False, 0.7517, 0.6150, 0.7646),
    PaperRow("TriUpSegNet-A", 60.06, "DC", True, 0.7395, 0.6030, 0.7628),
    PaperRow("TriUpSegNet-B", 59.47, "DC", True, 0.7413, 0.6043, 0.7620),
    PaperRow("Ensemble-A", 59.35, "CE", True, 0.7559, 0.6255, 0.7930),
    PaperRow("Ensemble-B", 84.13, "CE", True, 0.7699, 0.6404, 0.8004),
    PaperRow("Ensemble-C", 84.13, "CE", True, 0.7700, 0.6403, 0.7930),
    PaperRow("HSP-Net", 69.70, "AE", True, 0.7822, 0.6549, 0.7976),
)
