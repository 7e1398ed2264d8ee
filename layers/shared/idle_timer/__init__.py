"""Ends idle chat conversations: `timer` holds the protocol, `conversation` the rules, `adapters` the outside."""
