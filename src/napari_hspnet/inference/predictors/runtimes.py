"""Runtimes of others, where they are installed: OpenVINO and ONNX Runtime."""

from __future__ import annotations

import importlib
import io
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from napari_hspnet.inference.predictors.apart import Apart
from napari_hspnet.inference.predictors.base import Subject
from napari_hspnet.inference.predictors.eager import centred, folded_network

__all__ = ["OnnxRuntime", "OpenVino"]


class OpenVino(Apart):
    """The folded network in OpenVINO, on the CPU."""

    name = "openvino"
    patience = 30.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._request: Any = None

    @classmethod
    def _lacks(cls, subject: Subject) -> str | None:
        return _cpu_alone(subject) or _not_installed("openvino")

    def _prepare(self) -> None:
        openvino = importlib.import_module("openvino")
        side = self.subject.window
        assert side is not None
        model = openvino.convert_model(
            folded_network(self.subject),
            example_input=torch.zeros(1, 3, side, side),
            input=[-1, 3, side, side],
        )
        settings = {
            # Its own choice would be bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._request = openvino.compile_model(model, "CPU", settings).create_infer_request()

    def _work(self, windows: Tensor) -> Tensor:
        inputs = centred(windows, self._mean).contiguous()
        found = self._request.infer([inputs.numpy()], share_inputs=True)
        return torch.from_numpy(found[0].copy())

    def _stop(self) -> None:
        if self._request is not None:
            self._request.cancel()

    def _forget(self) -> None:
        self._request = None


class OnnxRuntime(Apart):
    """The folded network in ONNX Runtime, on the CPU."""

    name = "onnxruntime"
    patience = 30.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._session: Any = None
        self._options: Any = None

    @classmethod
    def _lacks(cls, subject: Subject) -> str | None:
        return _cpu_alone(subject) or _not_installed("onnxruntime", "onnx")

    def _prepare(self) -> None:
        runtime = importlib.import_module("onnxruntime")
        side = self.subject.window
        assert side is not None
        file = io.BytesIO()
        # The exporter by tracing: the other one needs a third package. It takes
        # open files, whatever torch's annotations say.
        export: Any = torch.onnx.export
        export(
            folded_network(self.subject),
            (torch.zeros(1, 3, side, side),),
            file,
            input_names=["windows"],
            output_names=["logits"],
            dynamic_axes={"windows": {0: "n"}, "logits": {0: "n"}},
            opset_version=18,
            dynamo=False,
        )
        how = runtime.SessionOptions()
        how.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin while they wait take the processor from the readers.
        how.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._options = runtime.RunOptions()
        self._session = runtime.InferenceSession(
            file.getvalue(), how, providers=["CPUExecutionProvider"]
        )

    def _work(self, windows: Tensor) -> Tensor:
        inputs = centred(windows, self._mean).contiguous()
        (found,) = self._session.run(["logits"], {"windows": inputs.numpy()}, self._options)
        return torch.from_numpy(found)

    def _stop(self) -> None:
        if self._options is not None:
            self._options.terminate = True

    def _forget(self) -> None:
        self._session = None


def _cpu_alone(subject: Subject) -> str | None:
    return None if subject.device.type == "cpu" else "for the CPU alone"


def _not_installed(*packages: str) -> str | None:
    absent = [package for package in packages if find_spec(package) is None]
    return f"{' and '.join(absent)} not installed" if absent else None
