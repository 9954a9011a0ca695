"""The words that everything else is written in: references, field paths, origins, objects, findings.

Values only. Nothing in here performs I/O, knows a particular API kind or imports anything of Fairlead.
"""
