"""The whole stack on one machine, without Docker: nginx, four workers and MongoDB."""
