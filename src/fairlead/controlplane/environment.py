"""Gives the compiler the variables of this process's environment that headers of tracers ask for (Istio's envName)."""

from __future__ import annotations

from collections.abc import Mapping

from fairlead.compiler.telemetry import wanted_variables
from fairlead.controlplane.feed import Feed
from fairlead.ir.observability import VARIABLES


class Environment:
    """Puts what is wanted, and nothing else: other variables may hold secrets."""

    def __init__(self, feed: Feed, variables: Mapping[str, str]) -> None:
        self._feed = feed
        self._variables = variables
        self._given: set[str] = set()

    def start(self) -> None:
        """Begin."""
        self._feed.listen(lambda _: self._look())
        self._look()

    def _look(self) -> None:
        wanted = set(self._feed.model.engine.call(wanted_variables, ""))
        for name in self._given - wanted:
            self._feed.put(VARIABLES, name, None)
        for name in wanted - self._given:
            if name in self._variables:
                self._feed.put(VARIABLES, name, self._variables[name])
        self._given = wanted
