"""How an application's traffic meets its proxy on a host without pods.

`plan` says, as data, what a workload's network namespace holds; `netlink` makes it so, in a process of its own;
`namespace` is what the supervisor calls. No `ip` or `nft` binary is needed.

For pods and VMs, where a sidecar stands beside its application in one network: `settings` and `rules` say what Istio's
rules for it are, `nftables` and `iptables` write them as text, and `kernel` puts them in place.
"""
