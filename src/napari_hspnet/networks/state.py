"""State dicts: cleaning them, telling their architecture, filling a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_hspnet.errors import CheckpointError, InputError
from napari_hspnet.networks.architecture import Architecture

__all__ = ["fill", "infer_architecture", "plain_state"]

_WRAPPERS = ("state_dict", "model_state_dict", "model", "network")
# The convolution that gives the logits, in any of the families.
_LAST = ("head.2.weight", "segmentation_head.0.weight", "classify.weight")
# (blocks in layer3, has a third convolution) tell the ResNets apart.
_RESNETS = {
    (1, False): "small",
    (2, False): "resnet18",
    (6, False): "resnet34",
    (6, True): "resnet50",
    (23, True): "resnet101",
}


def plain_state(content: object, path: Path) -> dict[str, Tensor]:
    """The state dict in what a PyTorch file held.

    A module gives its own; a training checkpoint the one under a usual key;
    the prefix of `DataParallel` and `DistributedDataParallel` goes.

    Raises
    ------
    CheckpointError
        If there is none.
    """
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            inner = content.get(key)
            if isinstance(inner, nn.Module):
                inner = inner.state_dict()
            if isinstance(inner, Mapping):
                content = inner
                break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise CheckpointError(
            "the checkpoint holds no state dict",
            advice="Save network.state_dict(), or a mapping with it under 'state_dict'",
            path=path,
        )
    return {str(k).removeprefix("module."): v.detach().cpu() for k, v in content.items()}


def infer_architecture(state: Mapping[str, Tensor]) -> Architecture | None:
    """The architecture that these tensors belong to, or None if that is unclear.

    Only names and shapes are looked at; `fill` still checks every tensor.
    Dilations leave no trace in them: the paper's are assumed. Of the families
    HSP-Net alone is told.
    """
    blocks = {k.split(".")[2] for k in state if k.startswith("encoder.layer3.")}
    encoder = _RESNETS.get((len(blocks), "encoder.layer3.0.conv3.weight" in state))
    present = tuple(f"ds.{i}.reduce.0.weight" in state for i in range(5))
    try:
        ds_widths = tuple(
            state[f"ds.{i}.reduce.0.weight" if there else f"ds.{i}.0.weight"].shape[0]
            for i, there in enumerate(present)
        )
        head = tuple(state[f"head.{i}.0.weight"].shape[0] for i in range(2))
        num_classes = state["head.2.weight"].shape[0]
        if encoder is None:
            return None
        if encoder != "small":
            return Architecture("hspnet", encoder, num_classes, present, ds_widths, head)
        stages = tuple(state[f"encoder.layer{i}.0.conv1.weight"].shape[0] for i in range(1, 5))
        return Architecture("hspnet", encoder, num_classes, present, ds_widths, head, stages)
    except (KeyError, IndexError, InputError):
        return None


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a network the tensors of a state dict, all of them or none.

    The network may be on torch's meta device; the tensors become its own.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unexpected, or of another shape; a wrong number
        of output channels is named as such.
    """
    own = network.state_dict()
    advice = "Choose a checkpoint of this architecture"
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    for kind, keys in (("lacks", missing), ("has the unexpected", unexpected)):
        if keys:
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise CheckpointError(
                f"the checkpoint does not fit its architecture: it {kind} {shown}",
                advice=advice,
                path=path,
            )
    last = next((k for k in _LAST if k in own), "")
    if last and state[last].shape[0] != own[last].shape[0]:
        raise CheckpointError(
            f"the checkpoint has {state[last].shape[0]} classes, "
            f"its architecture {own[last].shape[0]}",
            advice=advice,
            path=path,
        )
    for key, tensor in state.items():
        if tensor.shape != own[key].shape:
            raise CheckpointError(
                f"the checkpoint does not fit its architecture: {key} is "
                f"{tuple(tensor.shape)} instead of {tuple(own[key].shape)}",
                advice=advice,
                path=path,
            )
    # Files older than the counters of batch normalisation do without them.
    counters = {k: torch.zeros((), dtype=torch.long) for k in own if k not in state}
    network.load_state_dict({**state, **counters}, assign=True)
