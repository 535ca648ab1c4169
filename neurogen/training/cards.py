"""What a GPU can do at most, by its name: the dense bfloat16 peak that its vendor publishes.

in:  a name, as the driver gives it
out: TFLOP/s, to measure utilisation against (speed.py); None for a card that is not listed

conf/gpu has the cards that dry_run=true calculates with, whatever card is here.
"""

from __future__ import annotations

import re

PEAK_TFLOPS = {  # the first whose words all stand in the name
    "H200 NVL": 835,
    "H200": 989,
    "GH200": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H100": 989,
    "H20": 148,
    "B200": 2250,
    "A100": 312,
    "A800": 312,
    "A40": 150,
    "A30": 165,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
}


def peak_tflops_of(card: str) -> float | None:
    """Of a name such as NVIDIA A100-SXM4-80GB. A part of a card (MIG) is not listed."""
    words = set(re.split(r"\W+", card))
    if "MIG" in words:
        return None
    return next((float(peak) for model, peak in PEAK_TFLOPS.items() if words.issuperset(model.split())), None)
