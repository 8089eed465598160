"""A simulated CAVATICA for the demo, the tests and the benchmarks.

It answers the calls around bulk exports in the platform's wire format, so that the official client
works with it unchanged. Its exports depend only on a clock and a seed; faults and the list's
behaviour are arguments. It needs only the standard library.

    simulator = Simulator(token="secret")
    ids = simulator.start(30, volume="rfranklin/exports")
    with serve(simulator) as url:  # http://127.0.0.1:<port>/v2
        ...
"""

from exporter.simulator.app import Simulator
from exporter.simulator.fault import Fault, malformed_ids
from exporter.simulator.life import Lifetimes
from exporter.simulator.listing import Listing
from exporter.simulator.request import Request
from exporter.simulator.server import serve

__all__ = ["Fault", "Lifetimes", "Listing", "Request", "Simulator", "malformed_ids", "serve"]
