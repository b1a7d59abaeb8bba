"""What carries a container's program between the engine's connection and a jail, with this test as the engine."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.sandbox.docker_process import resources
from infra.sandbox.docker_relay import Ends, Frame, FrameReader, Relay, open_pipes
from infra.sandbox.limits import MIB, Limits


def framed(stream: int, content: bytes) -> bytes:
    return struct.pack(">B3xI", stream, len(content)) + content


class Wire(NamedTuple):
    engine: socket.socket
    jail: Ends
    relay: Relay


@pytest.fixture
def connect() -> Iterator[Callable[..., Wire]]:
    wires: list[Wire] = []

    def start(is_running: Callable[[], bool] = lambda: True, early: list[Frame] | None = None) -> Wire:
        engine, ours = socket.socketpair()
        engine.settimeout(10)
        pipes = open_pipes()
        relay = Relay(ours, pipes.relay, FrameReader(), is_running)
        relay.start(early or [])
        wires.append(Wire(engine, pipes.jail, relay))
        return wires[-1]

    yield start
    for wire in wires:
        wire.engine.close()
        for descriptor in wire.jail:
            os.close(descriptor)


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=50))), st.integers(1, 20))
def test_frames_are_whole_however_they_arrive(frames: list[tuple[int, bytes]], step: int) -> None:
    stream = b"".join(framed(*frame) for frame in frames)
    reader = FrameReader()
    found = [frame for start in range(0, len(stream), step) for frame in reader.feed(stream[start : start + step])]
    assert found == frames


def test_output_and_errors_go_apart_and_the_end_is_told(connect: Callable[..., Wire]) -> None:
    wire = connect(early=[Frame(1, b"first ")])
    wire.engine.sendall(framed(2, b"oh") + framed(1, b"then"))
    wire.engine.close()
    assert os.read(wire.jail.ended, 1) == b""
    assert (os.read(wire.jail.stdout, 100), os.read(wire.jail.stderr, 100)) == (b"first then", b"oh")


def test_input_arrives_whole_with_its_end(connect: Callable[..., Wire]) -> None:
    engine, jail, _ = connect()
    end_of_input = os.dup(jail.stdin)
    os.write(end_of_input, b"x" * 50_000)
    os.close(end_of_input)
    received = bytearray()
    while len(received) < 50_000:
        received += engine.recv(65_536)
    assert received == b"x" * 50_000


def test_a_child_that_holds_the_streams_does_not_hold_the_end(connect: Callable[..., Wire]) -> None:
    wire = connect(is_running=lambda: False)
    assert os.read(wire.jail.ended, 1) == b""


def test_what_nobody_reads_is_dropped_when_told_so(connect: Callable[..., Wire]) -> None:
    wire = connect()
    wire.relay.drop()
    for _ in range(64):  # far more than all the buffers on the way hold
        wire.engine.sendall(framed(1, b"x" * 65_536))
    wire.engine.close()
    assert os.read(wire.jail.ended, 1) == b""


def test_the_container_counts_processes_and_not_the_users_of_all_containers() -> None:
    found = resources(Limits(cpu_s=3, memory_bytes=128 * MIB))
    assert "RLIMIT_NPROC" not in found
    assert (found["RLIMIT_CPU"], found["RLIMIT_AS"], found["RLIMIT_CORE"]) == (3, 128 * MIB, 0)
