"""Tone mapping of HDR frames (PQ and HLG, BT.2020 primaries) to SDR, by tables on pixels that are already scaled.

The rule: signal to display light (PQ: SMPTE ST 2084; HLG: ITU-R BT.2100 for a display of 1000 cd/m²), in units of the
reference white of 203 cd/m² (ITU-R BT.2408); primaries from BT.2020 to BT.709; light up to 0.9 of the reference white
stays, more is compressed into the rest by an extended Reinhard curve on the largest of the three colours, so that hues
stay; the result is coded for a BT.1886 display (exponent 2.4).
"""

from __future__ import annotations

from functools import cache

import numpy as np

#: Transfer characteristics by the numbers of ITU-T H.273: PQ, HLG.
PQ, HLG = 16, 18
_WHITE, _PEAK = 203.0, {PQ: 10_000.0, HLG: 1000.0}  # cd/m²
_KNEE = 0.9  # light up to here is unchanged, in units of the reference white
_STEPS = 4096  # entries of the tables of the output's coding

# Linear light, BT.2020 to BT.709 primaries (ITU-R BT.2087).
_PRIMARIES = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def to_sdr(signal: np.ndarray, transfer: int) -> np.ndarray:
    """SDR pixels, uint8 (..., 3), RGB.

    Args:
        signal: R'G'B' of an HDR frame with BT.2020 primaries, uint16 (..., 3), full range.
        transfer: `PQ` or `HLG`.

    Source: ITU-R BT.2100, BT.2087, BT.2408; the curve is Reinhard et al., 2002, equation 4.
    """
    light: np.ndarray = _light(transfer)[signal]
    if transfer == HLG:  # opto-optical transfer: the display's exponent is applied to the scene's luminance
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = light * (luminance[..., None] ** 0.2)
    light = np.maximum(light * (_PEAK[transfer] / _WHITE) @ _PRIMARIES.T, 0)
    largest = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light = light * (_compressed(largest, _PEAK[transfer] / _WHITE) / largest)
    coded: np.ndarray = _coded()[np.rint(np.minimum(light, 1) ** 0.5 * (_STEPS - 1)).astype(np.int64)]
    return coded


def _compressed(light: np.ndarray, peak: float) -> np.ndarray:
    """Light with the part above the knee compressed, so that `peak` becomes 1."""
    over = np.maximum(light - _KNEE, 0) / (1 - _KNEE)
    most = (peak - _KNEE) / (1 - _KNEE)
    compressed: np.ndarray = np.minimum(light, _KNEE) + (1 - _KNEE) * over * (1 + over / most**2) / (1 + over)
    return compressed


@cache
def _light(transfer: int) -> np.ndarray:
    """Light of each 16-bit signal, 1 at the peak: of the display for PQ, of the scene for HLG."""
    signal = np.arange(65536) / 65535
    if transfer == PQ:
        root = signal ** (32 / 2523)
        light = (np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)) ** (16384 / 2610)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return light.astype(np.float32)


@cache
def _coded() -> np.ndarray:
    """8-bit code of the square root of SDR light, tabulated so that dark steps stay fine."""
    root = np.linspace(0, 1, _STEPS)
    code: np.ndarray = np.rint(255 * root ** (2 / 2.4)).astype(np.uint8)
    return code
