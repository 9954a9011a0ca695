"""SPIFFE identities: root, issuance, join tokens, the certificate service.

Private keys of workloads never come here: only signing requests do.
"""
