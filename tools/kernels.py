"""Notebooks run in kernels whose answers are never overlooked.

`jupyter_client` sends on a socket behind the back of the event loop that waits for answers on the
same socket. An answer that comes in just then is taken note of by the sending and announced to
nobody: the loop sleeps until the time-out of the cell, beside a kernel that has answered and rests.
It happens where the client itself sends while a cell runs, that is, wherever a notebook draws into
an Output widget, and the more easily the busier the machine is (jupyter/nbclient#312,
jupyter/jupyter_client#1059; every version of ipykernel). `Client` looks again after every sending.
"""

from __future__ import annotations

import zmq
from jupyter_client import AsyncKernelClient, AsyncKernelManager
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient import NotebookClient
from traitlets import default


class Channel(AsyncZMQSocketChannel):
    """A channel that notices what comes in while it sends."""

    def send(self, msg: dict) -> None:
        super().send(msg)
        # Asked for its events, the socket of pyzmq wakes whoever waits for one that is there.
        self.socket.get(zmq.EVENTS)


class _Kernel(AsyncKernelClient):
    @default("shell_channel_class")
    def _shell_channel_class_default(self) -> type[Channel]:
        return Channel

    @default("control_channel_class")
    def _control_channel_class_default(self) -> type[Channel]:
        return Channel


class _Manager(AsyncKernelManager):
    @default("client_factory")
    def _client_factory_default(self) -> type[_Kernel]:
        return _Kernel


class Client(NotebookClient):
    """`nbclient.NotebookClient`, over channels that overlook no answer."""

    @default("kernel_manager_class")
    def _kernel_manager_class_default(self) -> type[_Manager]:
        return _Manager
