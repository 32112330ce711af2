"""Dense optical flow from onset to apex on the aligned crop, by three methods.

Which to take (a warped face of 224 px, motion of 0.5, 1 and 2 px, one core):

============  ==========================  =======================  ====
method        mean end-point error, px    magnitude found / true   ms
============  ==========================  =======================  ====
``tvl1``      .116 / .184 / .286          .58 / .68 / .78          557
``dis``       .057 / .087 / .135          1.01 / .91 / .91         26
``farneback`` .080 / .119 / .194          .97 / .93 / .93          7
============  ==========================  =======================  ====

TV-L1 is the paper's and the default. It finds directions well and magnitudes too small, so sites of
one federation should agree on a method.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["FLOW_METHODS", "FLOW_SETTINGS", "FlowMethod", "dense_flow"]

FlowMethod = Literal["tvl1", "dis", "farneback"]
FLOW_METHODS: Final[tuple[FlowMethod, ...]] = get_args(FlowMethod)

#: What a manifest says about each method.
FLOW_SETTINGS: Final[dict[FlowMethod, str]] = {
    "tvl1": "OpenCV DualTVL1, its defaults",
    "dis": "OpenCV DIS medium, finest scale 0, 20 variational refinement iterations",
    "farneback": "OpenCV Farneback, 3 levels, window 15, 3 iterations, polynomial 5 / 1.2",
}

Grey = NDArray[np.uint8]


def dense_flow(onset: Grey, apex: Grey, method: FlowMethod = "tvl1") -> NDArray[np.float32]:
    """Displacement from onset to apex, (2, H, W) float32 in pixels: u right, v down.

    onset, apex: (H, W) uint8, of the same size. ``flow[:, y, x]`` says where what is at (x, y) in
    the onset has gone at the apex: a raised brow has v < 0.
    """
    onset, apex = np.ascontiguousarray(onset), np.ascontiguousarray(apex)
    flow = _FLOWS[method](onset, apex)
    return np.ascontiguousarray(np.moveaxis(flow, -1, 0), dtype=np.float32)


def _tvl1(onset: Grey, apex: Grey) -> NDArray[Any]:
    found: NDArray[Any] = cv2.optflow.DualTVL1OpticalFlow_create().calc(onset, apex, None)
    return found


def _dis(onset: Grey, apex: Grey) -> NDArray[Any]:
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    search.setVariationalRefinementIterations(20)
    found: NDArray[Any] = search.calc(onset, apex, None)
    return found


def _farneback(onset: Grey, apex: Grey) -> NDArray[Any]:
    found: NDArray[Any] = cv2.calcOpticalFlowFarneback(
        onset,
        apex,
        None,
        pyr_scale=0.5,
        levels=3,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )
    return found


_FLOWS: Final = {"tvl1": _tvl1, "dis": _dis, "farneback": _farneback}
