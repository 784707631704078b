"""Several hosts: MongoDB members and application hosts in network namespaces, faults between them, and a checker."""
