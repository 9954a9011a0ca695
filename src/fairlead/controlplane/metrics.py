"""The control plane's own figures, as a Prometheus page (text format 0.0.4)."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairlead.controlplane.feed import Feed
from fairlead.controlplane.footprint import Footprint
from fairlead.controlplane.proxies import Proxies
from fairlead.xds.server import Server

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def page(feed: Feed, proxies: Proxies, xds: Server | None, footprint: Footprint) -> str:
    """The whole page. Costs time with the number of tables, rules and proxies, not with what they hold."""
    lines = [
        *feed.stages.lines(),
        *(
            line
            for name, kind, said, samples in _families(feed, proxies, footprint)
            for line in _family(name, kind, said, samples)
        ),
        *(line for name, kind, said, samples in _streams(xds) for line in _family(name, kind, said, samples)),
    ]
    return "\n".join(lines) + "\n"


def held(feed: Feed, proxies: Proxies, xds: Server | None, footprint: Footprint) -> dict[str, Any]:
    """What the control plane holds, JSON-shaped: rows by table, values by rule, their bytes, what is published."""
    engine = feed.model.engine
    return {
        "residentBytes": _resident(),
        "allocatedBlocks": sys.getallocatedblocks(),
        "held": dict(engine.sizes()),
        "bytes": dict(footprint.sizes()),
        "runs": dict(engine.runs),
        "published": feed.model.publisher.sizes(),
        "streams": len(xds.live) if xds is not None else 0,
        "proxies": proxies.counts().total,
    }


_Family = tuple[str, str, str, Mapping[str, float]]


def _families(feed: Feed, proxies: Proxies, footprint: Footprint) -> Iterable[_Family]:
    """Compiling, and what proxies have of it."""
    engine, sizes, counted = feed.model.engine, feed.model.publisher.sizes(), proxies.counts()
    progress = proxies.progress
    runs = engine.runs.total()
    reuse = {"reused": engine.reused, "spared": engine.spared, "equal": engine.equal, "different": runs - engine.equal}
    return (
        ("fairlead_rules_run_total", "counter", "Evaluations of rules.", _by("rule", engine.runs)),
        ("fairlead_values_total", "counter", "Values that were asked for, by what became of them.", _by("how", reuse)),
        ("fairlead_held_bytes", "gauge", "About how many bytes tables and rules hold.", _by("of", footprint.sizes())),
        ("fairlead_passes_total", "counter", "Passes over committed changes.", {"": feed.passes}),
        ("fairlead_rows", "gauge", "Rows of tables, and values of rules, that are held.", _by("of", engine.sizes())),
        ("fairlead_revision", "gauge", "The newest revision that is compiled.", {"": feed.revision}),
        ("fairlead_views", "gauge", "Different views of connected proxies.", {"": sizes["views"]}),
        ("fairlead_groups", "gauge", "Groups of views that share a catalog.", {"": sizes["groups"]}),
        ("fairlead_layers", "gauge", "Lists of resources that views share.", {"": sizes["layers"]}),
        ("fairlead_parts", "gauge", "Resources that are kept up to date.", {"": sizes["parts"]}),
        ("fairlead_resource_bytes", "gauge", "Bytes of all these resources.", {"": sizes["bytes"]}),
        ("fairlead_invalid_objects", "gauge", "Stored objects that cannot be read.", {"": len(feed.invalid)}),
        ("fairlead_proxies", "gauge", "Connected proxies.", {"": counted.total}),
        ("fairlead_proxies_behind", "gauge", "Proxies that lack something.", {"": counted.behind}),
        ("fairlead_proxies_refusing", "gauge", "Proxies that refuse something.", {"": counted.refused}),
        ("fairlead_proxies_held", "gauge", "Proxies from which a push is held back.", {"": counted.held}),
        ("fairlead_answers_total", "counter", "Answers of proxies.", _by("answer", proxies.answers())),
        ("fairlead_revisions_open", "gauge", "Revisions that not everybody has.", {"": progress.open}),
        ("fairlead_revision_oldest_seconds", "gauge", "Age of the oldest of these.", {"": round(progress.oldest(), 3)}),
        ("fairlead_revisions_given_up_total", "counter", "Revisions not followed to the end.", {"": progress.given_up}),
        ("process_resident_memory_bytes", "gauge", "Resident memory.", {"": _resident()}),
        ("process_cpu_seconds_total", "counter", "Processor time.", {"": round(_processor_time(), 3)}),
    )


def _streams(xds: Server | None) -> Iterable[_Family]:
    """The port of configuration streams."""
    if xds is None:
        return ()
    sent = {type_url.rpartition(".")[2]: counted for type_url, counted in xds.sent.items()}
    pushes, size = ({at: one[index] for at, one in sent.items()} for index in (0, 1))
    return (
        ("fairlead_pushes_total", "counter", "Responses sent.", _by("type", pushes)),
        (
            "fairlead_pushed_bytes_total",
            "counter",
            "Bytes sent.",
            _by("type", size),
        ),
        (
            "fairlead_encoded_total",
            "counter",
            "Bodies of responses: made, or shared with an earlier one.",
            _by("how", {"made": xds.encoder.misses, "shared": xds.encoder.hits}),
        ),
        ("fairlead_streams", "gauge", "Open configuration streams.", {"": len(xds.live)}),
        ("fairlead_streams_waiting", "gauge", "Streams that wait to be admitted.", {"": xds.admission.waiting}),
        ("fairlead_pushing_seconds_total", "counter", "Processor time of pushes.", {"": round(xds.pushing.spent, 6)}),
        ("fairlead_turn_longest_seconds", "gauge", "Longest wait of due pushes.", {"": round(xds.pushing.longest, 6)}),
        ("fairlead_streams_pending", "gauge", "Streams that wait to be looked at.", {"": xds.pushing.waiting}),
    )


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
