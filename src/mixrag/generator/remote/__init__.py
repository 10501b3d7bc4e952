"""Language models behind a server: what it can return is found out first, and only that is used."""
