"""The second program, `cavatica-exports`: discover, status, failed."""
