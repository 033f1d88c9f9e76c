"""Rules, scrapes and alerts on real servers."""
