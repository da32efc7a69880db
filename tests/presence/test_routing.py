"""Rates: how many notifications in a time are within a cap."""

from services.presence.routing import Cap


def test_as_many_as_a_cap_allows_go_at_once():
    """Whatever becomes of thirds of its time when they are added up."""
    for at_most in range(1, 50):
        for now in (0.0, 1.0, 1_791_046_643.8547647):
            cap = Cap(at_most, 5.0)
            used = 0.0
            for _ in range(at_most):
                assert cap.allows(used, now), (at_most, now)
                used = cap.after(used, now)
            assert not cap.allows(used, now), (at_most, now)
