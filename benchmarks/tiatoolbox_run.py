"""TIAToolbox's `SemanticSegmentor` over an array, for the stitching and engine benchmarks.

It pins other versions of torch and NumPy than ours, so it lives in an environment of its
own, whose interpreter is named with --tiatoolbox or TIATOOLBOX_PYTHON. That interpreter
runs the child; our own package it finds through PYTHONPATH.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from napari_hspnet.networks import LoadedModel
    from peers import Predict

KIND = "tiatoolbox"


def add_option(parser: argparse.ArgumentParser) -> None:
    """The interpreter of the environment that holds TIAToolbox."""
    parser.add_argument(
        "--tiatoolbox",
        metavar="PYTHON",
        default=os.environ.get("TIATOOLBOX_PYTHON", ""),
        help="the interpreter of an environment that holds tiatoolbox",
    )


def load() -> None:
    """Import it; imports are not what is measured."""
    from napari_hspnet.networks.torchvision_compat import torchvision_module

    # TIAToolbox imports torchvision itself, which fails beside a CPU build of torch
    # unless ours has mended it.
    torchvision_module("torchvision.transforms")
    import tiatoolbox.models.engine.semantic_segmentor
    import tiatoolbox.wsicore.wsireader  # noqa: F401

    logging.getLogger("tiatoolbox").setLevel(logging.ERROR)


def segment(
    pixels: np.ndarray, model: LoadedModel, batch: int, *, predict: Predict | None = None
) -> np.ndarray:
    """Labels of an array, averaged with equal weights: it has no Gaussian.

    It reads through its own reader for arrays, merges and writes as it always does, a
    Zarr store of labels among it. Windows that hang over the right and the lower edge,
    which it would add, are left out, so that its windows are everybody's.
    """
    import torch
    import zarr
    from tiatoolbox.models.engine.io_config import IOSegmentorConfig
    from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
    from tiatoolbox.models.models_abc import ModelABC
    from tiatoolbox.wsicore.wsireader import VirtualWSIReader

    import peers

    window, (height, width) = model.card.window, pixels.shape[:2]
    network = predict or model.network
    mean = torch.tensor(model.card.mean).view(1, 3, 1, 1)
    std = torch.tensor(model.card.std).view(1, 3, 1, 1)

    class Wrapped(ModelABC):
        """The network in the form that the engine asks for."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return network(x)

        @staticmethod
        def infer_batch(model: Any, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
            images = batch_data.permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)
            with torch.inference_mode():
                return model(images).softmax(1).permute(0, 2, 3, 1).numpy()

        @staticmethod
        def postproc(image: Any) -> Any:
            return image.argmax(-1)

    class Inside(SemanticSegmentor):
        """Reads from memory, and only windows that lie in the array."""

        def get_dataloader(self, *args: Any, **options: Any) -> Any:
            loader = super().get_dataloader(*args, **options)
            found = loader.dataset
            inside = (found.inputs[:, 2] <= width) & (found.inputs[:, 3] <= height)
            found.inputs, found.outputs = found.inputs[inside], found.outputs[inside]
            found.full_outputs = found.outputs
            found.reader = options["images"]
            return loader

    if (height - window) % peers.STRIDE or (width - window) % peers.STRIDE:
        raise SystemExit(f"{height} x {width} px are not whole strides of {peers.STRIDE}")
    reader = VirtualWSIReader(pixels, mode="rgb")
    reader.input_path = Path("array.tiff")  # only its stem is used, to name the result
    own = [{"units": "baseline", "resolution": 1.0}]
    config = IOSegmentorConfig(
        input_resolutions=own,
        output_resolutions=own,
        save_resolution=own[0],
        patch_input_shape=(window, window),
        patch_output_shape=(window, window),
        stride_shape=(peers.STRIDE, peers.STRIDE),
    )
    engine = Inside(Wrapped(), batch_size=batch, num_workers=0, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        written = engine.run(
            [reader],
            patch_mode=False,
            ioconfig=config,
            save_dir=Path(folder) / "out",
            output_type="zarr",
            auto_get_mask=False,
            device="cpu",
        )
        store = zarr.open(str(written[reader.input_path]), mode="r")
        return np.asarray(store["predictions"][:])
