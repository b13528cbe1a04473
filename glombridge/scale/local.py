"""A Dask cluster of this machine's own processes."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

ALLOWED_FAILURES = 1
"""Workers a piece may end before it is suspected; here nobody else can have ended them."""


@contextmanager
def local_cluster(processes: int | None) -> Iterator[str]:
    """Start a scheduler and workers, each in a process of its own with one thread.

    They listen on this machine only, and have no dashboard. Processes are spawned, so a script
    needs ``if __name__ == "__main__":``.

    Args:
        processes: workers; as many as this process may use cores by default.

    Yields:
        The address of the scheduler.
    """
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
                "distributed.worker.multiprocessing-method": "spawn",
            }
        ),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=processes or _cores(),
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            protocol="tcp",
            memory_limit="auto",
            # Without a port of its own the scheduler would take 8787, dashboard or not.
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=_log_level(),
            preload=f"{__package__}.undisturbed",
        ) as cluster,
    ):
        yield cluster.scheduler_address


def _log_level() -> int:
    """What of Dask's log is shown: with ``-v`` as much as of ours, else nothing.

    Its workers write tracebacks of connections that end because the scheduler does, which is how
    each run ends here. What becomes of a slide is told by the driver.
    """
    level = logging.getLogger().getEffectiveLevel()
    return level if level < logging.WARNING else logging.CRITICAL


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
