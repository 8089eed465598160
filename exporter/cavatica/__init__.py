"""The CAVATICA API: one bulk get call, its values, and the credentials for it."""
