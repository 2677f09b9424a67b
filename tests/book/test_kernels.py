"""An answer that comes in while a channel sends is noticed."""

from __future__ import annotations

import asyncio
import select

import nbformat
import zmq
import zmq.asyncio
from jupyter_client.session import Session

import kernels

LONG = 30  # seconds: how long a test may hang before it is red, and no measure of anything


def test_an_answer_that_comes_while_the_channel_sends_is_noticed():
    session = Session()

    async def wait_and_send() -> str:
        with zmq.asyncio.Context() as context:
            kernel = context.socket(zmq.ROUTER, socket_class=zmq.Socket)
            asks = context.socket(zmq.DEALER)
            asks.connect(f"tcp://127.0.0.1:{kernel.bind_to_random_port('tcp://127.0.0.1')}")
            channel = kernels.Channel(asks, session)
            try:
                channel.send(session.msg("question"))
                who, *_ = kernel.recv_multipart()
                answer = asyncio.ensure_future(channel.get_msg(timeout=LONG * 1000))
                await asyncio.sleep(0)  # now it waits
                session.send(kernel, "answer", ident=who)
                assert select.select([asks.fileno()], [], [], LONG)[0]  # it is here, loop unaware
                channel.send(session.msg("something else"))
                return (await asyncio.wait_for(answer, LONG))["msg_type"]
            finally:
                asks.close(linger=0)
                kernel.close(linger=0)

    assert asyncio.run(wait_and_send()) == "answer"


def test_notebooks_run_over_such_channels():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    client, used = kernels.Client(notebook, kernel_name="python3"), []

    def look(notebook: nbformat.NotebookNode) -> None:
        used.extend([type(client.kc.shell_channel), type(client.kc.control_channel)])

    client.on_notebook_start = look
    client.execute()
    assert used == [kernels.Channel] * 2
    assert notebook.cells[0].outputs[0].data["text/plain"] == "2"
