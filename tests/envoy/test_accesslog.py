"""The extension without which Envoy refuses a listener whose log has `%REQ_WITHOUT_QUERY(...)%`."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict

from fairlead.envoy.accesslog import LogTarget, access_logs
from fairlead.ir.mesh import Mesh
from fairlead.ir.observability import Logger

LINE = "%REQ_WITHOUT_QUERY(:PATH)%"
FIELDS = f'{{"path": "{LINE}"}}'
FILE = "/dev/stdout"


def formatters(mesh: Mesh, *loggers: Logger) -> list[list[str]]:
    said: list[dict[str, Any]] = [
        MessageToDict(one)["typedConfig"]
        for one in access_logs(mesh, tuple(LogTarget(one) for one in loggers) if loggers else None)
    ]
    return [[one["name"] for one in log.get("logFormat", log).get("formatters", [])] for log in said]


@pytest.mark.parametrize(
    "mesh",
    [
        Mesh(access_log_file=FILE, access_log_format=LINE),
        Mesh(access_log_file=FILE, access_log_format=FIELDS, access_log_encoding="JSON"),
    ],
)
def test_the_file_of_the_mesh(mesh: Mesh) -> None:
    assert formatters(mesh) == [["envoy.formatter.req_without_query"]]


@pytest.mark.parametrize(
    "logger",
    [
        Logger("file", path=FILE, text=LINE),
        Logger("file", path=FILE, fields=FIELDS),
        Logger("opentelemetry", text=LINE),
        Logger("opentelemetry", fields=FIELDS),
    ],
)
def test_providers(logger: Logger) -> None:
    assert formatters(Mesh(), logger) == [["envoy.formatter.req_without_query"]]


def test_other_formats_need_none() -> None:
    assert formatters(Mesh(access_log_file=FILE)) == [[]]
    wanted: list[list[str]] = [[], []]
    assert formatters(Mesh(), Logger("file", path=FILE, text="%REQ(:PATH)%"), Logger("opentelemetry")) == wanted
