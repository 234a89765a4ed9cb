"""A transformers encoder computed by OpenVINO on a CPU: the same hidden states, sooner."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError

Numbers = NDArray[np.int64]
Hidden = Callable[[Numbers, Numbers], NDArray[np.float32]]
_PRECISION = {"float32": "f32", "bfloat16": "bf16"}
_WIDTH = 8
"""Lengths are padded to a multiple of this: OpenVINO makes code for every shape anew."""


def compiled(model: Any, compute: str) -> Hidden:
    """The last hidden states ``(n, tokens, dim)`` of token ids and mask ``(n, tokens)``; ``model`` is a loaded torch encoder.

    Raises ModelError where this CPU does not compute in that precision.
    """
    import openvino
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    example = torch.ones(2, _WIDTH, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, that what depends on shapes may be taken for constant: tests try other shapes
        graph = openvino.convert_model(Encoder().eval(), example_input={"input_ids": example, "attention_mask": example})
    wanted = {"INFERENCE_PRECISION_HINT": _PRECISION[compute], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    runner = openvino.Core().compile_model(graph, "CPU", wanted | {"PERFORMANCE_HINT": "LATENCY"})
    if (given := runner.get_property("INFERENCE_PRECISION_HINT").to_string()) != _PRECISION[compute]:
        raise ModelError(f"OpenVINO computes in {given} on this CPU, not in {compute}: say compute=float32")

    def hidden(tokens: Numbers, mask: Numbers) -> NDArray[np.float32]:
        more = -tokens.shape[1] % _WIDTH
        wide = [np.pad(part, ((0, 0), (0, more))) for part in (tokens, mask)]
        return np.asarray(runner(wide)[0][:, : tokens.shape[1]], dtype=np.float32)

    return hidden
