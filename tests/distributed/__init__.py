"""Two processes on one machine against one."""
