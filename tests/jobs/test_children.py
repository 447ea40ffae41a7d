"""Ctrl-C in a terminal reaches every process of the group: ours answers, its children don't."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from napari_hspnet.jobs.children import deaf_to_ctrl_c
from napari_hspnet.jobs.crew import Crew, crew_client
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="masks of signals are POSIX's"
)


def wait_until(said, seconds=60):
    deadline = time.monotonic() + seconds
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def nap():
    time.sleep(0.5)
    return os.getpid()


def test_a_worker_of_the_cluster_and_its_successor_do_not_hear_ctrl_c():
    pytest.importorskip("distributed")
    with crew_client(Crew(workers=1)) as client:
        first = client.submit(os.getpid, pure=False).result(60)
        busy = client.submit(nap, pure=False)
        os.kill(first, signal.SIGINT)
        assert busy.result(60) == first
        os.kill(first, signal.SIGKILL)
        second = client.submit(os.getpid, pure=False).result(60)
        assert second != first
        busy = client.submit(nap, pure=False)
        os.kill(second, signal.SIGINT)
        assert busy.result(60) == second


def test_processes_that_draw_fields_do_not_hear_ctrl_c():
    jobs = [FieldJob(seed, 256) for seed in range(16)]
    fields = draw_fields(jobs, workers=2)
    got = [next(fields)]
    children = {child.pid for child in multiprocessing.active_children()}
    assert children
    for pid in children:
        os.kill(pid, signal.SIGINT)
    time.sleep(0.5)
    assert {child.pid for child in multiprocessing.active_children()} == children
    assert len(got + list(fields)) == len(jobs)


def _keep_on(ready, over):
    ready.set()
    over.wait(60)


def test_a_process_that_is_still_starting_does_not_hear_it():
    context = multiprocessing.get_context("spawn")
    ready, over = context.Event(), context.Event()
    child = context.Process(target=_keep_on, args=(ready, over))
    with deaf_to_ctrl_c(), ThreadPoolExecutor(1) as threads:
        threads.submit(child.start).result()
    # From its first instruction on, so at whatever moment it is hit.
    while not ready.is_set():
        assert child.is_alive()
        os.kill(child.pid, signal.SIGINT)
        time.sleep(0.01)
    over.set()
    child.join(60)
    assert child.exitcode == 0


def test_one_that_comes_meanwhile_is_kept_for_us():
    came = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: came.set())
    try:
        with deaf_to_ctrl_c():
            signal.raise_signal(signal.SIGINT)
            assert not came.is_set()
        wait_until(came.is_set)
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGINT, before)
