"""Which mesh names a workload can resolve, and to what. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from fairlead.agent.messages import Host
from fairlead.ir.families import Families, of_family

TTL_SECONDS = 30
KUBERNETES = "Kubernetes"


class Names:
    """The name table as one workload sees it: with short names of its own namespace, as Istio's agent adds them.

    Of hosts with addresses of both families those are answered with which the workload can work.
    """

    def __init__(
        self,
        table: Mapping[str, Host],
        namespace: str,
        domain: str,
        search: Sequence[str] = (),
        families: Families = "dual",
    ) -> None:
        self._hosts: dict[str, Host] = {}
        self._search = tuple(suffix.lower().strip(".") for suffix in search if suffix.strip("."))
        for name, host in table.items():
            plain = name.lower().rstrip(".")
            known = replace(host, addresses=of_family(host.addresses, families))
            self._hosts[plain] = known
            for short in _short_names(plain, known, namespace, domain.lower()):
                self._hosts.setdefault(short, known)

    def find(self, name: str) -> Host | None:
        """The host behind a queried name: as it is, without a search suffix, or by the nearest wildcard."""
        plain = name.lower().rstrip(".")
        for candidate in (plain, *self._stripped(plain)):
            host = self._hosts.get(candidate) or self._wildcard(candidate)
            if host is not None:
                return host
        return None

    def _stripped(self, plain: str) -> list[str]:
        return [plain[: -len(suffix) - 1] for suffix in self._search if plain.endswith(f".{suffix}")]

    def _wildcard(self, plain: str) -> Host | None:
        rest = plain
        while "." in rest:
            rest = rest.partition(".")[2]
            host = self._hosts.get(f"*.{rest}")
            if host is not None:
                return host
        return None

    def some(self) -> str:
        """A name that resolves, the first of a Service if there is one; "" if nothing does."""
        plain = [name for name in self._hosts if not name.startswith("*")]
        return min(plain, key=lambda name: (".svc." not in name, name), default="")

    def __len__(self) -> int:
        return len(self._hosts)


def _short_names(name: str, host: Host, namespace: str, domain: str) -> list[str]:
    short, where = host.shortname.lower(), host.namespace.lower()
    if not short or not where:
        suffix = f".svc.{domain}"
        if not name.endswith(suffix) or name.startswith("*"):
            return []
        short, _, where = name.removesuffix(suffix).partition(".")
        if not where or "." in where:
            return []
    names = [f"{short}.{where}", f"{short}.{where}.svc"]
    if where == namespace:
        names.append(short)
    return names
