"""Packs that nobody described: typical cells of a chemistry, from the literature."""

from __future__ import annotations

import numpy as np

from replay.fit.rc import Floats, Tables
from replay.fit.render import BREAK_CURRENT, PackSpec

R_SOC = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
R_TEMP_C = (-30.0, -20.0, -10.0, 0.0, 10.0, 25.0, 40.0, 60.0)

# Near-equilibrium voltage at 25 °C.  NMC 622/111-like against graphite: flat start of the graphite stages, the
# step at 55-60 %, then the oxide's slope.  LFP: 3.29 V and 3.33 V plateaus with the graphite step near 65 %.
NMC_OCV = (
    (0.0, 3.10), (0.02, 3.28), (0.05, 3.405), (0.1, 3.475), (0.15, 3.525), (0.2, 3.56), (0.25, 3.59), (0.3, 3.612),
    (0.35, 3.632), (0.4, 3.652), (0.45, 3.675), (0.5, 3.704), (0.55, 3.745), (0.6, 3.8), (0.65, 3.85), (0.7, 3.897),
    (0.75, 3.942), (0.8, 3.989), (0.85, 4.037), (0.9, 4.085), (0.95, 4.133), (1.0, 4.185),
)  # fmt: skip
LFP_OCV = (
    (0.0, 2.75), (0.02, 2.97), (0.05, 3.13), (0.075, 3.185), (0.1, 3.206), (0.15, 3.222), (0.2, 3.245), (0.25, 3.265),
    (0.3, 3.28), (0.35, 3.287), (0.4, 3.2895), (0.5, 3.293), (0.6, 3.2975), (0.65, 3.312), (0.7, 3.3285),
    (0.75, 3.3315), (0.8, 3.3333), (0.85, 3.3351), (0.9, 3.3369), (0.95, 3.34), (0.98, 3.35), (0.99, 3.37), (1.0, 3.42),
)  # fmt: skip


def resistance(at_25c: float, shape: tuple[float, ...], arrhenius_k: float) -> Floats:
    """Spread one value over R_TEMP_C × R_SOC: a factor per SOC times exp(E/R (1/T − 1/298 K))."""
    kelvin = np.array(R_TEMP_C) + 273.15
    return np.asarray(at_25c * np.exp(arrhenius_k * (1 / kelvin - 1 / 298.15))[:, None] * np.array(shape))


def _tables(ocv: tuple[tuple[float, float], ...], tau_s: tuple[float, ...], r_ohm: list[Floats]) -> Tables:
    soc, v = np.array(ocv).T
    return Tables(soc, np.array([25.0]), v[None], np.array(R_SOC), np.array(R_TEMP_C), np.array(r_ohm), np.array(tau_s))


def nmc() -> PackSpec:
    """Describe a typical NMC pack; 60 Ah where the name gives none."""
    r0 = (1.6, 1.35, 1.2, 1.08, 1.0, 1.0, 1.0, 1.05)
    slow = (2.5, 2.0, 1.6, 1.2, 1.0, 1.0, 1.0, 1.1)
    return PackSpec(
        about="Any NMC pack: sizes from the name, as in generic-nmc@96c24t60ah.",
        generic=True,
        chemistry="nmc",
        series=96,
        parallel=1,
        probes=16,
        nominal_ah=60.0,
        usable_ah=60.0,
        charge_max_a=180.0,
        discharge_max_a=360.0,
        break_current_a=3.5,
        ocv_source="borrowed",
        ocv_from="typical NMC-graphite cell (literature)",
        tables=_tables(
            NMC_OCV,
            (10.0, 120.0, 800.0),
            [
                resistance(0.8e-3, r0, 1900.0),
                resistance(0.3e-3, r0, 2800.0),
                resistance(0.35e-3, slow, 2800.0),
                resistance(0.25e-3, slow, 2800.0),
            ],
        ),
        hysteresis_v=0.0,
        heat_capacity_j_per_k=1800.0,
        loss_w_per_k=0.5,
        coolant_w_per_k=2.0,
        provenance={
            "ocv": "typical values for NMC 622/111 against graphite at 25 °C, rounded, no single measurement",
            "resistance": "48 mΩ·Ah ohmic, 54 mΩ·Ah in branches; Arrhenius 1900 K and 2800 K: typical, assumed",
            "thermal": "2 kg of cell per 60 Ah at 900 J/(kg K); coolant: 4 × the loss to air, assumed",
            "limits": f"default profile; 3 C charge, 6 C discharge assumed; {BREAK_CURRENT}",
        },
    )


def lfp() -> PackSpec:
    """Describe a typical LFP pack; 100 Ah where the name gives none."""
    r0 = (1.5, 1.3, 1.15, 1.05, 1.0, 1.0, 1.0, 1.05)
    slow = (2.5, 1.9, 1.5, 1.2, 1.0, 1.0, 1.0, 1.3)
    return PackSpec(
        about="Any LFP pack: sizes from the name, as in generic-lfp@108c18t150ah.",
        generic=True,
        chemistry="lfp",
        series=108,
        parallel=1,
        probes=18,
        nominal_ah=100.0,
        usable_ah=100.0,
        charge_max_a=200.0,
        discharge_max_a=400.0,
        break_current_a=3.5,
        ocv_source="borrowed",
        ocv_from="typical LFP-graphite cell (literature)",
        tables=_tables(
            LFP_OCV,
            (10.0, 120.0, 1200.0),
            [
                resistance(0.55e-3, r0, 2200.0),
                resistance(0.2e-3, r0, 3200.0),
                resistance(0.2e-3, slow, 3200.0),
                resistance(0.2e-3, slow, 3200.0),
            ],
        ),
        hysteresis_v=0.008,
        heat_capacity_j_per_k=2300.0,
        loss_w_per_k=0.6,
        coolant_w_per_k=2.4,
        provenance={
            "ocv": "typical values for LFP against graphite at 25 °C, mean of charge and discharge, assumed",
            "resistance": "55 mΩ·Ah ohmic, 60 mΩ·Ah in branches; Arrhenius 2200 K and 3200 K: typical, assumed",
            "hysteresis": "half of the 10-20 mV gap between charge and discharge that is usually reported",
            "thermal": "2.3 kg of cell per 100 Ah at 1000 J/(kg K); coolant: 4 × the loss to air, assumed",
            "limits": f"default profile; 2 C charge, 4 C discharge assumed; {BREAK_CURRENT}",
        },
    )
