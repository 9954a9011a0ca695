"""Questions that are answered in a copy of the process."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from starlette.requests import Request

from fairlead.controlplane.aside import Answer, Aside, Found, Inquiry, Unanswered
from fairlead.controlplane.operations import answered
from fairlead.controlplane.places import Positions
from fairlead.model.ref import Ref
from fairlead.store.change import Place
from tests.controlplane.running_plane import until


def test_the_loop_goes_on_and_nothing_is_changed_here(tmp_path: Path) -> None:
    sign, held = tmp_path / "sign", ["before"]
    settled: list[str] = []

    def work(_: Inquiry) -> Answer:
        while not sign.exists():
            time.sleep(0.01)
        held.append("in the copy")
        return Answer(200, {"process": os.getpid(), "held": held, "settled": settled})

    async def run() -> Found:
        asked = asyncio.create_task(Aside(lambda: settled.append("settled")).ask(work))
        await until(lambda: settled, "a copy")
        sign.touch()  # this is done by the loop while the answer is worked on
        return await asked

    found = asyncio.run(run()).document
    assert found["process"] != os.getpid()
    assert found["held"] == ["before", "in the copy"] and held == ["before"]
    assert found["settled"] == ["settled"]


def test_a_defect_is_logged_and_said(caplog: pytest.LogCaptureFixture) -> None:
    def work(_: Inquiry) -> Answer:
        raise RuntimeError("broken")

    with pytest.raises(Unanswered, match="a defect: the log"):
        asyncio.run(Aside(lambda: None).ask(work))
    assert "RuntimeError: broken" in caplog.text


def test_what_takes_too_long_ends() -> None:
    def work(_: Inquiry) -> Answer:
        while True:
            time.sleep(0.01)

    with pytest.raises(Unanswered, match="no answer within 1 s"):
        asyncio.run(Aside(lambda: None, seconds=1).ask(work))


def test_whoever_asks_may_go(tmp_path: Path) -> None:
    begun = tmp_path / "begun"

    def work(_: Inquiry) -> Answer:
        begun.write_text(str(os.getpid()))
        while True:
            time.sleep(0.01)

    async def run() -> None:
        asked = asyncio.create_task(Aside(lambda: None).ask(work))
        await until(lambda: begun.exists() and begun.read_text(), "work in the copy")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(run())
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


def test_a_client_that_goes_away_ends_the_work() -> None:
    ended: list[str] = []

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def asking() -> Found:
        try:
            return await asyncio.Future()
        finally:
            ended.append("cancelled")

    async def run() -> None:
        request = Request({"type": "http"}, receive)
        assert (await asyncio.wait_for(answered(request, asking()), 10)).status_code == 499

    asyncio.run(run())
    assert ended == ["cancelled"]


def test_where_objects_stand_is_inquired_of_the_original() -> None:
    refs = [Ref("", "Service", "shop", f"s{at}") for at in range(120)]
    asked: list[Ref] = []

    def place(ref: Ref) -> Place | None:
        asked.append(ref)
        return Place(ref, "uid", 1, f"{ref.name}.yaml", ((("spec",), 3, 1),)) if ref.name != "s7" else None

    def work(inquiry: Inquiry) -> Answer:
        origins = [{"object": ref._asdict(), "field": "spec"} for ref in refs]
        return Answer(200, Positions(inquiry).put_in({"origins": [*origins, *({**one} for one in origins)]}))

    found = asyncio.run(Aside(lambda: None).ask(work, place)).document["origins"]
    assert asked == refs, "once each"
    assert [one.get("position") for one in found] == [
        None if ref.name == "s7" else f"{ref.name}.yaml:3:1" for ref in (*refs, *refs)
    ]


def test_files_of_the_original_are_closed(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        number = file.fileno()

        def work(_: Inquiry) -> Answer:
            try:
                os.fstat(number)
            except OSError:
                return Answer(200, {"closed": True})
            return Answer(200, {"closed": False})

        assert asyncio.run(Aside(lambda: None).ask(work)).document == {"closed": True}
        assert os.fstat(number)


def test_long_answers_arrive_whole_or_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x" * 300_000
    assert asyncio.run(Aside(lambda: None).ask(lambda _: Answer(200, {"text": text}))).document == {"text": text}
    monkeypatch.setattr("fairlead.controlplane.aside._LARGEST", 1000)
    assert asyncio.run(Aside(lambda: None).ask(lambda _: Answer(200, {"text": text}))).status == 413
