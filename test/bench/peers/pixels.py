"""Pictures as BLIP takes them."""

import numpy

MEAN = numpy.array([0.48145466, 0.4578275, 0.40821073], "float32")
STD = numpy.array([0.26862954, 0.26130258, 0.27577711], "float32")


def normalised(pictures):
    """`uint8 [B, H, W, 3]` -> `float32 [B, 3, H, W]`."""
    values = (pictures.astype("float32") / 255 - MEAN) / STD
    return numpy.ascontiguousarray(values.transpose(0, 3, 1, 2))
