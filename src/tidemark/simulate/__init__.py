"""The stand-in for the Mockstagram API: the GET and POST of the task, with faults on request.

It knows nothing of the rest of Tidemark and shares no code with the client that talks to it.
"""

from tidemark.simulate.faults import Faults
from tidemark.simulate.options import SimulateOptions
from tidemark.simulate.server import Mockstagram, serve
from tidemark.simulate.walk import Walk, is_suspicious

__all__ = ["Faults", "Mockstagram", "SimulateOptions", "Walk", "is_suspicious", "serve"]
