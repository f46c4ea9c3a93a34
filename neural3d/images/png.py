"""Pictures that lie within other files."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image


def png(picture: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()
