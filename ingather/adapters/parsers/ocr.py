"""Text of a scanned page, by RapidOCR: its models are in its wheel, and nothing is downloaded.

Loaded at the first page a process reads; it takes a second and some hundred megabytes, which is why it is asked for.
"""

import functools
from typing import Any

import numpy as np
from PIL import Image

from ingather.models.errors import ConfigurationError


def is_available() -> bool:
    """Whether the extra ``ingather[ocr]`` is installed."""
    from importlib.util import find_spec  # noqa: PLC0415

    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


def recognised_text(page: Image.Image) -> str:
    """What is written on a page, a line a line; empty where nothing is. Raises ``ConfigurationError`` without the extra."""
    found = _engine()(np.asarray(page.convert("RGB")))
    lines = getattr(found, "txts", None) or ()
    return "\n".join(line.strip() for line in lines if line.strip())


@functools.cache
def _engine() -> Any:
    try:
        from rapidocr import RapidOCR  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "INGATHER_SHEETS__OCR is set, and RapidOCR is not installed.", action="Install ingather[ocr]."
        ) from error
    # One thread: parser processes are as many as there are cores.
    return RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
