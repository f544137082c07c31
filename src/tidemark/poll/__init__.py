"""From a tick to a batch: the client of the Mockstagram API."""
