"""Faults between several hosts: MongoDB members and application hosts in network namespaces, and a history checker."""
