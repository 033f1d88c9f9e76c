"""Constants and formulas of physics, once, so that neither sources nor PromQL hold any.

Sources: the 2019 SI defines k exactly (BIPM, SI Brochure 9th ed.); R. Landauer, IBM J. Res. Dev.
5, 183 (1961) for the cost of erasing one bit.
"""

from __future__ import annotations

from math import log

from joulefloor.units import Joules, Kelvin

BOLTZMANN_JOULES_PER_KELVIN = 1.380649e-23
LN_2 = log(2.0)


def landauer_joules_per_bit(temperature: Kelvin) -> Joules:
    """Least mean heat in J for erasing one fair bit into a bath at `temperature` (> 0 K).

    2.870979e-21 J at 300 K. The bound is an average over runs of a full erasure against one bath;
    it is a floor to compare with, not a target that a machine can reach.

    Raises:
        ValueError: the temperature is not above 0 K.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0 K, not {temperature}")
    return Joules(BOLTZMANN_JOULES_PER_KELVIN * temperature * LN_2)
