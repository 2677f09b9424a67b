"""Notebooks run in kernels that start, and whose answers are never overlooked.

`jupyter_client` sends on a socket behind the back of the event loop that waits for answers on the
same socket. An answer that comes in just then is taken note of by the sending and announced to
nobody: the loop sleeps until the time-out of the cell, beside a kernel that has answered and rests.
It happens where the client itself sends while a cell runs, that is, wherever a notebook draws into
an Output widget, and the more easily the busier the machine is (jupyter/nbclient#312,
jupyter/jupyter_client#1059; with ipykernel 6.31 as with 7.4). `Client` looks after every sending.

A client also chooses the ports of its kernel before there is one. On a busy machine some other
connection may take one of them first; the kernel then dies before its first answer. `Client` starts
it again, and says so. What goes wrong later is never tried again: it may be the notebook's fault.
"""

from __future__ import annotations

import atexit
import sys

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
    """`nbclient.NotebookClient`; its channels overlook no answer, and a kernel has three starts."""

    @default("kernel_manager_class")
    def _kernel_manager_class_default(self) -> type[_Manager]:
        return _Manager

    async def async_start_new_kernel(self, **how: object) -> None:
        self._how = how
        await super().async_start_new_kernel(**how)

    async def async_start_new_kernel_client(self) -> AsyncKernelClient:
        for left in (2, 1, 0):
            try:
                return await super().async_start_new_kernel_client()
            except RuntimeError as error:  # it died, or was silent for `startup_timeout` seconds
                if not left:
                    atexit.unregister(self._cleanup_kernel)  # it is clean, and would complain
                    raise
                print(f"kernels: {error}; it is started again", file=sys.stderr, flush=True)
            self.km = self.create_kernel_manager()
            await self.async_start_new_kernel(**self._how)
        raise AssertionError("not reached")
