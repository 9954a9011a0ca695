"""Cases that other implementations test themselves with, run through Fairlead's public entry points.

The cases are no part of this repository: FAIRLEAD_CONFORMANCE_DIR names their folder (default: `../shared/conformance`
beside the repository). Without it the suites are skipped. `expected-failures.yaml` lists what fails, each with a
reason; a case that is listed and passes fails the run, so the list only shrinks.
"""
