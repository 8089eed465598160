"""A simulated CAVATICA for the demo, the tests and the benchmarks.

It answers the calls around bulk exports with the platform's wire format: the official client works
against it unchanged. Its exports live by a clock and a seed, its faults are switched on by an
argument. It needs the standard library alone.

    simulator = Simulator(token="secret")
    ids = simulator.start(30, volume="rfranklin/exports")
    with serve(simulator) as url:  # http://127.0.0.1:<port>/v2
        ...
"""

from exporter.simulator.app import Simulator
from exporter.simulator.fault import Fault
from exporter.simulator.life import Lifetimes
from exporter.simulator.request import Request
from exporter.simulator.server import serve

__all__ = ["Fault", "Lifetimes", "Request", "Simulator", "serve"]
