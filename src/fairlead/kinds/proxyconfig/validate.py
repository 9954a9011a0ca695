"""Istio's validation of ProxyConfig."""

from __future__ import annotations

from collections.abc import Iterator

from fairlead.ir.proxystart import variable_problems
from fairlead.kinds.proxyconfig.spec import ProxyConfigSpec
from fairlead.model.diagnostic import Problem
from fairlead.model.findings import invalid, no_effect
from fairlead.model.object import Object
from fairlead.model.path import SPEC
from fairlead.model.target import selector_problems

_MOST = 2**31 - 1


def validate(obj: Object[ProxyConfigSpec]) -> Iterator[Problem]:
    """Selector, number of threads, and what an environment can hold."""
    spec = obj.spec
    if spec.selector is not None and spec.selector.match_labels:  # an empty one is as good as none, without a word
        yield from selector_problems(spec.selector)
    if spec.concurrency is not None and not 0 <= spec.concurrency <= _MOST:
        said = "concurrency must be greater than or equal to 0"
        yield invalid(SPEC / "concurrency", said, "Use 0 for one thread for each core.")
    yield from variable_problems(spec.environment_variables, SPEC / "environmentVariables")
    if spec.image is not None and spec.image.image_type:
        yield no_effect(SPEC / "image", "Envoy is the one that is installed: give another with the agent's `envoy`.")
