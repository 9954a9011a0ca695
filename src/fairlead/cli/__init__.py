"""The command line: talks to the API, or compiles offline.

Decides nothing about the mesh: it reads, asks and prints.
"""

WORDS = "fairlead.words"
"""Where a context keeps the words of the command line (`click.Context.meta`)."""
ALSO = {"pc": "proxy-config", "ps": "proxy-status"}
"""Short names of commands, which fingers know from istioctl."""
