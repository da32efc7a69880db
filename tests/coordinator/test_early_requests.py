"""What is asked of a partition while its claim is under way is kept, and no other."""

from onward.coordinator.v1 import coordinator_pb2

from services.coordinator.early_requests import EarlyRequests


def asked(partition: int, epoch: int = 5) -> coordinator_pb2.PartitionRequests:
    return coordinator_pb2.PartitionRequests(partition=partition, epoch=epoch)


def test_what_came_meanwhile_is_given_back_in_its_order() -> None:
    early = EarlyRequests(requests_max=10)
    early.expect([1, 2])
    assert early.keep(7, asked(1, 5), 1)
    assert early.keep(8, asked(1, 6), 1)
    assert early.end([1, 2]) == [(7, asked(1, 5)), (8, asked(1, 6))]
    assert early.end([1]) == []


def test_what_is_not_expected_is_not_kept() -> None:
    early = EarlyRequests(requests_max=10)
    assert not early.keep(7, asked(1), 1)
    early.expect([1])
    early.end([1])
    assert not early.keep(7, asked(1), 1)


def test_no_more_is_kept_than_may_be() -> None:
    early = EarlyRequests(requests_max=3)
    early.expect([1, 2])
    assert early.keep(7, asked(1), 2)
    assert not early.keep(7, asked(2), 2)
    assert early.keep(7, asked(2), 1)
    early.end([1, 2])
    early.expect([1])
    assert early.keep(7, asked(1), 3)
