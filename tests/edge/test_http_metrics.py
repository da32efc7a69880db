"""What is counted of HTTP: our paths and statuses, and nothing of what was asked."""

import aiohttp
from prometheus_client import REGISTRY

from tests.edge.door import open_door, run_on_uvloop


def counted(path: str, status: str) -> float:
    labels = {"path": path, "status": status}
    return REGISTRY.get_sample_value("onward_edge_http_requests_total", labels) or 0.0


def test_requests_are_counted_by_path_and_status() -> None:
    async def main() -> None:
        async with open_door() as door, aiohttp.ClientSession() as session:
            expected = {
                ("/v1/history", "200"): "/v1/history?subject=/a&user=beatrix",
                ("/v1/history", "400"): "/v1/history?subject=nothing",
                ("other", "404"): "/of/somebodys/choice?token=secret",
            }
            before = {key: counted(*key) for key in expected}
            for path in expected.values():
                async with session.get(door.url + path):
                    pass
            async with session.delete(door.url + "/v1/history"):
                pass
            assert {key: counted(*key) - before[key] for key in expected} == dict.fromkeys(
                expected, 1.0
            )
            async with session.get(door.url + "/metrics") as response:
                text = await response.text()
            assert "onward_edge_http_request_seconds_bucket" in text
            shown = [line for line in text.splitlines() if not line.startswith("#")]
            for word in ("somebodys", "secret", "beatrix", "nothing"):
                assert not [line for line in shown if word in line.replace("channel", "")]

    run_on_uvloop(main())
