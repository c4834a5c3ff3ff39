"""A faithful CC-Gateway that anyone can run. It shares no code with the adapter it tests."""

from qc_adapter.simulator.faults import Fault
from qc_adapter.simulator.gateway import Clocks
from qc_adapter.simulator.running import run
from qc_adapter.simulator.scenario import Scenario, ScenarioInvalid
from qc_adapter.simulator.settings import MistakeCodes, SimulatorSettings
from qc_adapter.simulator.simulator import Simulator

__all__ = ["Clocks", "Fault", "MistakeCodes", "Scenario", "ScenarioInvalid", "Simulator", "SimulatorSettings", "run"]
