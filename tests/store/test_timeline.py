"""The timeline: what each proxy did with a push, storms in one row, and how much is kept."""

from __future__ import annotations

from array import array
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from fairlead.store.answers import Answers, How, answered, packed
from fairlead.store.timeline import Answer, Asked, Bounds, Happening, Timeline

START = 1.7e9
ROWS = st.dictionaries(
    st.integers(1, (1 << 31) - 1),
    st.tuples(st.one_of(st.floats(0, 100), st.floats(0, 10**9)), st.sampled_from(How)),
    max_size=80,
)


@given(ROWS)
def test_answers_come_back_as_they_were_packed(rows: dict[int, tuple[float, How]]) -> None:
    numbers, data = packed([answered(at, *said) for at, said in rows.items()])
    found = Answers(data)
    assert found.numbers == numbers == sorted(rows) and len(found) == len(rows)
    for at, (seconds, how) in rows.items():
        said = found.of(at)
        assert said is not None and said[1] is how
        assert abs(said[0] - min(seconds, (1 << 30) / 1000)) < 0.001
    assert found.of(0) is None and found.of((1 << 31) + 1) is None


def test_answers_of_many_take_two_bytes_each() -> None:
    rows = [answered(at, 0.02 + at * 7919 % 400 / 1000, How.ACKNOWLEDGED) for at in range(1, 5001)]
    assert len(packed(rows)[1]) < 2 * len(rows)


def _push(timeline: Timeline, at: float, revision: int, answers: dict[str, tuple[float, How]]) -> None:
    rows = array("Q", (answered(timeline.number(name), *said) for name, said in answers.items()))
    timeline.note(Happening(at, "push", "2 Cluster to them", "", "", revision, revision, {"proxies": 1}, rows=rows))


def test_each_proxy_has_its_own_answer_however_many_there_are(tmp_path: Path) -> None:
    names = [f"web-{at}.shop" for at in range(1000)]
    timeline = Timeline(tmp_path / "timeline.db", clock=lambda: START + 10)
    _push(timeline, START, 1, {name: (at / 1000, How.ACKNOWLEDGED) for at, name in enumerate(names)})
    _push(timeline, START + 1, 2, {"web-7.shop": (0.25, How.REFUSED), "cart-1.shop": (0.5, How.LEFT)})
    timeline.note(Happening(START + 2, "joined", "connected", proxy="cart-1.shop"))
    timeline.close()
    # Numbers are those of the file, not of the process.
    timeline = Timeline(tmp_path / "timeline.db", clock=lambda: START + 10)
    mine = [one for _, one in timeline.listing(Asked(proxy="web-7.shop"))]
    assert [one.answers for one in mine] == [
        (Answer("web-7.shop", 0.007, How.ACKNOWLEDGED),),
        (Answer("web-7.shop", 0.25, How.REFUSED),),
    ]
    assert [one.revision for _, one in timeline.listing(Asked(proxy="cart-1.shop"))] == [2, 0]
    assert timeline.listing(Asked(proxy="nobody.shop")) == []
    first, second, _ = (one.answers for _, one in timeline.listing(Asked()))
    assert first is None and second is not None and len(second) == 2, "a large push is read when it is asked for"
    (whole,) = (one.answers for _, one in timeline.listing(Asked(revision=1, every=True)))
    assert whole is not None and [one.proxy for one in whole] == names
    timeline.close()


def test_the_newest_that_are_wanted_are_found_behind_many_that_are_not(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "timeline.db", clock=lambda: START)
    timeline.note(*(Happening(START, "health", f"{at}", proxy="a.shop") for at in range(3)))
    timeline.note(*(Happening(START, "health", f"{at}", proxy="b.shop") for at in range(2000)))
    found = timeline.listing(Asked(limit=2), lambda one: one.proxy == "a.shop")
    assert [one.text for _, one in found] == ["1", "2"]
    timeline.close()


def test_a_storm_is_one_row_in_which_everybody_is_found(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "timeline.db", clock=lambda: START)
    for at in range(300):
        timeline.note(Happening(START + at / 1000, "joined", "connected", proxy=f"web-{at}.shop"))
    timeline.note(Happening(START, "joined", "connected", "another", "cart-1.shop"))
    rows = [one for _, one in timeline.listing(Asked())]
    assert [(one.text, one.proxy) for one in rows] == [
        ("300 proxies: connected", ""),
        ("connected", "cart-1.shop"),
    ]
    assert len((rows[0].detail or {})["proxies"]) == 100
    (late,) = (one for _, one in timeline.listing(Asked(proxy="web-250.shop")))
    assert late.answers == (Answer("web-250.shop", 0.25, How.ACKNOWLEDGED),)
    timeline.close()


def test_age_rows_and_bytes_bound_what_is_kept(tmp_path: Path) -> None:
    now = START
    bounds = Bounds(seconds=100, rows=50, bytes=1 << 20, every=10)
    timeline = Timeline(tmp_path / "timeline.db", bounds=bounds, clock=lambda: now)

    def fill(count: int, size: int = 1) -> list[str]:
        for at in range(count):
            _push(timeline, now + at / 1000, at, {f"web-{at}.shop": (0.1, How.ACKNOWLEDGED)})
            timeline.note(Happening(now, "nack", f"{at}".rjust(size), proxy=f"web-{at}.shop"))
            timeline.flush()
        return [one.text.strip() for _, one in timeline.listing(Asked(limit=0))]

    assert len(fill(100)) <= 50 + bounds.every
    now += 200
    assert len(fill(10)) == 20, "the older ones are too old"
    assert timeline.listing(Asked(proxy="web-9.shop")) and not timeline.listing(Asked(proxy="web-90.shop"))
    left = fill(60, 100_000)
    assert left[-1] == "59" and 1 < len(left) < 40
    timeline.close()
    used = sum(one.stat().st_size for one in tmp_path.glob("timeline.db"))
    assert used < 4 << 20
    again = Timeline(tmp_path / "timeline.db", bounds=bounds, clock=lambda: now + 1000)
    again.note(Happening(now + 1000, "stopped", "the end"))
    assert [one.text for _, one in again.listing(Asked())] == ["the end"]
    assert again.number("fresh.shop") >= 1
    again.close()
