"""Strangers' bytes: `targets` lists every parser that reads them, and what must hold of each whatever the bytes."""
