"""How the bench calculates the cost of metrics and logs."""

import pytest

from bench.observation import cost_of


def test_each_round_is_compared_within_itself() -> None:
    """Changes of the machine's speed between rounds, or a single bad round, do not affect the result."""
    assert 0.05 == pytest.approx(cost_of([950.0, 2850.0, 95.0], [1000.0, 3000.0, 100.0]))
    assert 0.05 == pytest.approx(cost_of([950.0, 2850.0, 10.0], [1000.0, 3000.0, 100.0]))
    assert -0.1 == pytest.approx(cost_of([110.0], [100.0]))
