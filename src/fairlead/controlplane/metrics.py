"""The control plane's own figures, as a Prometheus page (text format 0.0.4)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Mapping
from pathlib import Path

from fairlead.controlplane.feed import Feed
from fairlead.controlplane.proxies import Proxies

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def page(feed: Feed, proxies: Proxies) -> str:
    """The whole page. Costs time with the number of tables, rules and proxies, not with what they hold."""
    engine, sizes = feed.model.engine, feed.model.publisher.sizes()
    counted = proxies.counters()
    lines = [
        *feed.stages.lines(),
        *_family("fairlead_rules_run_total", "counter", "Evaluations of rules.", _by("rule", engine.runs)),
        *_family("fairlead_passes_total", "counter", "Passes over committed changes.", {"": feed.passes}),
        *_family(
            "fairlead_rows", "gauge", "Rows of tables, and values of rules, that are held.", _by("of", engine.sizes())
        ),
        *_family("fairlead_revision", "gauge", "The newest revision that is compiled.", {"": feed.revision}),
        *_family("fairlead_views", "gauge", "Different views of connected proxies.", {"": sizes["views"]}),
        *_family("fairlead_layers", "gauge", "Lists of resources that views share.", {"": sizes["layers"]}),
        *_family("fairlead_parts", "gauge", "Resources that are kept up to date.", {"": sizes["parts"]}),
        *_family("fairlead_resource_bytes", "gauge", "Bytes of all these resources.", {"": sizes["bytes"]}),
        *_family("fairlead_proxies", "gauge", "Connected proxies.", {"": counted.pop("connected")}),
        *_family("fairlead_answers_total", "counter", "Answers of proxies.", _by("answer", counted)),
        *_family("process_resident_memory_bytes", "gauge", "Resident memory.", {"": _resident()}),
        *_family("process_cpu_seconds_total", "counter", "Processor time.", {"": round(_processor_time(), 3)}),
    ]
    return "\n".join(lines) + "\n"


def _family(name: str, kind: str, said: str, samples: Mapping[str, float]) -> Iterable[str]:
    return (
        f"# HELP {name} {said}",
        f"# TYPE {name} {kind}",
        *(f"{name}{key} {samples[key]}" for key in sorted(samples)),
    )


def _by(label: str, counts: Mapping[str, int]) -> dict[str, float]:
    return {f'{{{label}="{name}"}}': count for name, count in counts.items()}


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
