"""An answer that comes while a channel sends is noticed; a kernel that dies early starts again."""

from __future__ import annotations

import asyncio
import json
import select
import sys
from pathlib import Path

import nbformat
import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

import kernels

ROOT = Path(__file__).resolve().parents[2]
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


DIES = """
import os, pathlib, sys
starts = pathlib.Path(sys.argv[1])
starts.write_text(starts.read_text() + "x")
if len(starts.read_text()) <= int(sys.argv[2]):
    sys.exit(1)
os.execv(sys.executable, [sys.executable, "-m", "ipykernel_launcher", "-f", sys.argv[3]])
"""


@pytest.fixture
def dying(tmp_path, monkeypatch):
    """Make a kernel that dies before its first answer at the first `times` of its starts."""
    starts = tmp_path / "starts"
    starts.write_text("")

    def make(times: int) -> kernels.Client:
        argv = [sys.executable, "-c", DIES, str(starts), str(times), "{connection_file}"]
        spec = tmp_path / "kernels" / "dying" / "kernel.json"
        spec.parent.mkdir(parents=True)
        spec.write_text(json.dumps({"argv": argv, "display_name": "", "language": "python"}))
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
        cell = nbformat.v4.new_code_cell("import os; os.environ['COLOUR']")
        notebook = nbformat.v4.new_notebook(cells=[cell])
        return kernels.Client(notebook, kernel_name="dying", startup_timeout=10 * LONG)

    return make, starts


def test_a_kernel_that_dies_at_its_start_is_started_again_aloud(dying, capsys, monkeypatch):
    make, starts = dying
    client = make(1)
    client.execute(env={"COLOUR": "blue", "JUPYTER_PATH": ""})
    assert client.nb.cells[0].outputs[0].data["text/plain"] == "'blue'"
    assert starts.read_text() == "xx"
    assert capsys.readouterr().err.count("it is started again") == 1


def test_a_kernel_that_never_starts_is_an_error_after_three_starts(dying, capsys):
    make, starts = dying
    with pytest.raises(RuntimeError, match="died before replying"):
        make(9).execute()
    assert starts.read_text() == "xxx"
    assert capsys.readouterr().err.count("it is started again") == 2


def test_no_other_client_runs_notebooks_here():
    mine = {ROOT / "tools" / "kernels.py", Path(__file__)}
    files = {p for room in ("tools", "tests", "benchmarks") for p in (ROOT / room).rglob("*.py")}
    others = [p for p in files - mine if "NotebookClient" in p.read_text("utf-8")]
    assert files > mine
    assert others == []
