"""What an egress has taken of the machine, in the end."""

from openegress.worker.usage import ProcessUsage, Spending


def test_the_mean_is_of_its_whole_life_and_the_most_of_any_look() -> None:
    spending = Spending()
    for cores in (0.5, 2.0, 1.0):
        spending.see({"EG_1": ProcessUsage(cores, 1), "EG_2": ProcessUsage(0.1, 1)})
    spending.end("EG_1", busy_s=6.0, elapsed_s=10.0)
    assert spending.take("EG_1") == (0.6, 2.0)
    assert spending.take("EG_1") is None


def test_one_that_nobody_looked_at_took_no_more_than_its_mean() -> None:
    spending = Spending()
    spending.end("EG_1", busy_s=3.0, elapsed_s=2.0)
    assert spending.take("EG_1") == (1.5, 1.5)
    assert spending.take("EG_2") is None, "its process died unseen"
