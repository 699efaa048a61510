"""The pictures' colours are told apart by colour-blind readers, and on a printout in grey by their shapes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tasks.reporting.charts import GREEN, VERMILION
from tasks.reporting.evaluation_charts import COLOURS, HATCHES, MARKS

# What a dichromat sees, in linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
SEEN = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])  # of sRGB
ENOUGH = 10.0  # distance in CIELAB; 2.3 is just noticeable (Mahy et al. 1994)


def lab(colour: str, cones: str) -> np.ndarray:
    red_green_blue = np.array(to_rgb(colour))
    linear = np.where(red_green_blue <= 0.04045, red_green_blue / 12.92, ((red_green_blue + 0.055) / 1.055) ** 2.4)
    seen = XYZ @ np.clip(np.asarray(SEEN[cones]) @ linear, 0, 1) / XYZ.sum(axis=1)
    x, y, z = np.where(seen > (6 / 29) ** 3, np.cbrt(seen), seen / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one: str, other: str, cones: str) -> float:
    return float(np.linalg.norm(lab(one, cones) - lab(other, cones)))


@pytest.mark.parametrize("cones", SEEN)
def test_no_two_colours_melt_into_one(cones: str) -> None:
    assert min(apart(one, other, cones) for one, other in combinations(COLOURS, 2)) > ENOUGH
    assert min(apart(colour, "white", cones) for colour in COLOURS) > 20


def test_the_measure_can_fail_and_shapes_help() -> None:
    assert apart("#d7191c", "#6b7d12", "no green") < ENOUGH < apart("#d7191c", "#6b7d12", "all cones")  # a red and an olive
    assert len(set(MARKS)) == len(set(HATCHES)) == len(COLOURS) and {GREEN, VERMILION} <= set(COLOURS)
