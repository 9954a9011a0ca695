"""A request walked over compiled configuration, as Envoy would serve it: what it meets, and what decided each step.

Values in, values out: nothing is sent, no clock or chance is asked. Reads the Envoy resources that the compiler made
and never the objects behind them, so that it cannot agree with the objects where the proxies would not. What it cannot
decide it says; it does not guess.
"""
