"""The outside: each module is one service behind a port of `ports.py`. Only here are botocore and redis imported."""
