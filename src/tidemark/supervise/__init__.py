"""Everything on one machine: `tidemark up` starts the programs, keeps them running and stops them in order.

supervisor.py   what is started and stopped, and in which order?
orders.py       which programs are there, and what is each of them told?
nats_server.py  how is a NATS server of our own started?
keeper.py       how is one program kept running?
child.py        how is one process started, heard and ended?
leash.py        how does a child not outlive the supervisor?
folder.py       who may use the data folder?
screen.py       where do the lines go?
live.py         how is everything doing?
"""

from tidemark.supervise.supervisor import up

__all__ = ["up"]
