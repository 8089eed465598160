"""The metrics: families of samples, and their rendering to bytes."""
