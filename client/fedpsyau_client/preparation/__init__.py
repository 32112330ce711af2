"""From clips to features: frames, face landmarks, alignment, optical flow, feature store."""

from __future__ import annotations

import os

from fedpsyau_client.preparation.frame_size import MAX_PIXELS

# A small file can hold an enormous image. OpenCV refuses it before decoding, if told so before it
# is loaded; where something else has loaded it, `check_frame_size` refuses it afterwards.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
