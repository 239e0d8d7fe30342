"""How often a recording is gone on with."""

from openegress.core.restart_policy import RestartPolicy


def test_the_third_death_within_a_minute_is_the_last() -> None:
    policy = RestartPolicy()
    assert policy.allows([100.0], 100.0)
    assert policy.allows([100.0, 110.0], 110.0)
    assert not policy.allows([100.0, 110.0, 160.0], 160.0)
    assert policy.allows([100.0, 110.0, 171.0], 171.0)


def test_one_that_dies_once_an_hour_goes_on_for_days() -> None:
    policy = RestartPolicy()
    deaths_s = [3600.0 * hour for hour in range(100)]
    assert all(policy.allows(deaths_s[: n + 1], deaths_s[n]) for n in range(len(deaths_s)))
