"""PyBaMM's part of reading electrodes: a set's half cells and its single-particle model (extra `pybamm`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.kernels.electrodes import Electrodes, Halves, resting_at
from schemas.checked import ConfigError

Floats = NDArray[np.float64]
OF_CHEMISTRY = {"nmc": "Chen2020", "lfp": "Prada2013"}  # graphite against NMC 811, graphite against LFP
_POINTS = np.linspace(0.002, 0.998, 997)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A new cell of a parameter set: half cells, capacities, where it is empty, and its voltage limits."""

    name: str
    halves: Halves
    empty: Electrodes
    capacity_ah: float
    low_v: float
    high_v: float

    def sized(self, capacity_ah: float) -> Electrodes:
        """Give the new cell, empty, as large as a cell of `capacity_ah`."""
        k = capacity_ah / self.capacity_ah
        return Electrodes(k * self.empty.qn_ah, k * self.empty.qp_ah, self.empty.x0, self.empty.y0)


def pybamm() -> Any:  # noqa: ANN401 - a module without types
    """Import PyBaMM without its telemetry; raises ConfigError where the extra is not installed."""
    os.environ["PYBAMM_DISABLE_TELEMETRY"] = "true"
    try:
        import pybamm as module  # noqa: PLC0415 - an extra, and two seconds
    except ImportError as missing:
        msg = f"this needs PyBaMM (pip install 'ibms[cloud,pybamm]'); got {missing}"
        raise ConfigError(msg) from None
    return module


@lru_cache
def reference(name: str) -> Reference:
    """Read a parameter set of PyBaMM by name; raises ConfigError where it has none of that name, or half cells."""
    module = pybamm()
    if name not in module.parameter_sets:
        msg = f"--parameters must be a parameter set of PyBaMM; got {name} (one of {', '.join(module.parameter_sets)})"
        raise ConfigError(msg)
    values = module.ParameterValues(name)
    try:
        un, up = (_ocp(module, values, side) for side in ("Negative", "Positive"))
        of = module.LithiumIonParameters()
        qn, qp, lithium = (float(values.evaluate(q)) for q in (of.n.Q_init, of.p.Q_init, of.Q_Li_particles_init))
    except (KeyError, ValueError, AttributeError, TypeError) as missing:
        msg = f"--parameters must be a set with both half cells; got {name}, which lacks {str(missing).splitlines()[0]}"
        raise ConfigError(msg) from None
    halves = Halves(_POINTS, un, _POINTS, up)
    low, high = (float(values[f"{end} voltage cut-off [V]"]) for end in ("Lower", "Upper"))
    empty, full = (resting_at(halves, qn, qp, lithium, v) for v in (low, high))
    return Reference(name, halves, empty, qn * (full.x0 - empty.x0), low, high)


def _ocp(module: Any, values: Any, side: str) -> Floats:  # noqa: ANN401 - PyBaMM has no types
    ocp = values[f"{side} electrode OCP [V]"]
    return np.array([float(values.evaluate(ocp(module.Scalar(float(at))))) for at in _POINTS])


def simulate_charge(ref: Reference, cell: Electrodes, current_a: float) -> tuple[Floats, Floats]:
    """Charge `cell` at a steady current (A, of a cell of the set's size) to full by the single-particle model.

    Gives charge (N,), Ah, and voltage (N,), from where the cell is.  Raises ConfigError where it cannot be solved.
    """
    module = pybamm()
    values = module.ParameterValues(ref.name)
    for side, new, now, filled in (
        ("Negative", ref.empty.qn_ah, cell.qn_ah, cell.x0),
        ("Positive", ref.empty.qp_ah, cell.qp_ah, cell.y0),
    ):
        share = f"{side} electrode active material volume fraction"
        values[share] *= now / new
        most = float(values[f"Maximum concentration in {side.lower()} electrode [mol.m-3]"])
        values[f"Initial concentration in {side.lower()} electrode [mol.m-3]"] = filled * most
    steps = module.Experiment([f"Charge at {current_a} A until {ref.high_v} V"], period="2 minutes")
    simulation = module.Simulation(module.lithium_ion.SPM(), parameter_values=values, experiment=steps)
    try:
        solved = simulation.solve()
    except (module.SolverError, ValueError) as failed:
        msg = f"the single-particle model of {ref.name} cannot charge such a cell: {str(failed).splitlines()[0]}"
        raise ConfigError(msg) from None
    q_ah = -np.asarray(solved["Discharge capacity [A.h]"].entries, np.float64)
    return q_ah - q_ah[0], np.asarray(solved["Terminal voltage [V]"].entries, np.float64)
