"""How far scores can be trusted, asked apart from the loop: was a gain luck, and what do honest answers differ by."""
