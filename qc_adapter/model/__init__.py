"""Words that every layer shares: sessions, errors, deadlines. Imports nothing else of the package."""
