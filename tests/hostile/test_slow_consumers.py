"""Who stops reading is closed with 4001, costs a bounded amount of memory, and loses nothing."""

from tests.hostile.laggards import Laggard
from tests.hostile.scene import Watcher, closed, process
from tests.path.stack import Suite
from tests.waiting import wait_for

SLOW = 10
# What may wait for each: the high-water mark, a tick's queue, and some frames.
EACH_BYTES = 256 * 1024


def test_slow_clients_are_closed_and_recover_everything(suite: Suite) -> None:
    watcher = Watcher(suite)
    with process("crowd", suite.port, "/lag", 10, 2, 100, 600) as crowd:
        laggards = [Laggard(suite, "/lag", number) for number in range(SLOW)]
        before = closed(suite, "4001")

        def all_closed() -> bool:
            watcher.look()
            return closed(suite, "4001") - before >= SLOW

        wait_for(all_closed, 30, "4001 for every slow client")
        codes = [laggard.read_out() for laggard in laggards]
        # Who reads too late finds the connection cut; what had been sent is there all the same.
        assert set(codes) <= {4001, 1006}
        assert watcher.peak - watcher.before < SLOW * EACH_BYTES + (16 << 20)
        recovered = [laggard.come_back() for laggard in laggards]
        assert all(recovered)
        last = crowd.ask("stop")["last"]
        for laggard in laggards:
            laggard.catch_up(last)
    watcher.wait_back()
