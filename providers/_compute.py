"""In which precision, on what and by which engine a local model computes: part of its identity, so found out without importing torch."""

from __future__ import annotations

import platform
import sys
from importlib.util import find_spec
from pathlib import Path

from harness.embedder import Settings
from harness.errors import OptionError

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls matrix products in bfloat16: AVX-512 BF16, AMX (x86), BF16 (Arm)."""
CONVERTS = frozenset({"bert", "roberta", "xlm-roberta", "distilbert"})
"""``model_type`` in config.json of encoders that OpenVINO computes as torch does; mpnet in bfloat16 falls to a cosine of 0.99987."""


def options(settings: Settings, model_type: str, *, fixed: bool = False) -> tuple[tuple[str, str], ...]:
    """The precision, and the engine where it is not torch, as ``Model.options`` holds them.

    ``fixed``: there are no matrix products to speed up, or what is computed was not seen to stay the same, so ``auto`` is float32.
    Raises OptionError for what can't be had.
    """
    device = settings.device or here()
    engine = _engine(settings, model_type, device, fixed=fixed)
    asked = settings.compute or "auto"
    compute = asked if asked != "auto" else "float32" if fixed else native(device)
    if engine == "openvino" and compute == "float16":
        raise OptionError("compute float16 is not one of engine openvino's float32, bfloat16")
    return (("compute", compute), *((("engine", engine),) if engine != "torch" else ()))


def _engine(settings: Settings, model_type: str, device: str, *, fixed: bool) -> str:
    asked, fits = settings.engine or "auto", model_type in CONVERTS and device == "cpu" and not fixed and not settings.trust_remote_code
    if asked == "auto":
        return "openvino" if fits and find_spec("openvino") else "torch"
    if asked == "openvino" and not fits:
        known = ", ".join(sorted(CONVERTS))
        raise OptionError(f"engine openvino runs text encoders of {known} on a CPU, without code of their own; leave engine out")
    return asked


def here() -> str:
    """The device that torch will choose: cuda, mps or cpu. torch is asked only where there is something to ask for."""
    if Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists():  # Linux; Windows' subsystem for it
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        import torch

        if torch.backends.mps.is_available():
            return "mps"
    return "cpu"


def native(device: str) -> str:
    """The fastest precision that a device's own instructions know: bfloat16, else float16 on a GPU, else float32."""
    if device.startswith("cuda"):
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device.startswith("mps"):
        return "float16"
    return "bfloat16" if BFLOAT16 & flags() else "float32"


def flags() -> set[str]:
    """What this CPU can do, by Linux's names; nothing where another system runs."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.lower().startswith(("flags", "features"))), set())
