"""Models behind an API: calls, the account of tokens and money, and the bank they fill."""
