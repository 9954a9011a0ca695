"""How an application's traffic meets its proxy on a host without pods.

`plan` says, as data, what a workload's network namespace holds; `netlink` makes it so, in a process of its own;
`namespace` is what the supervisor calls. No `ip` or `nft` binary is needed.
"""
