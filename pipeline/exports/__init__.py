"""A run's closed books as tables that other people's tools load as they are."""
