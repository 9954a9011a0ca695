"""The ADS session machine: requests and changes in, responses and ledger entries out. No I/O."""
