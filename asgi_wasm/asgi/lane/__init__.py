"""The short way of a request on which nothing unusual happens; from each of its points the exchange takes over."""
