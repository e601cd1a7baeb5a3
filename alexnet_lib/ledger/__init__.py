"""What the claims of the ledger are measured with."""
