"""The tracker: what is known of every export, and which ones the API is asked about next."""
