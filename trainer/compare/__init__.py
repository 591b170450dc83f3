"""`entrostat compare`: strategies x targets x seeds in one loop, one table."""
