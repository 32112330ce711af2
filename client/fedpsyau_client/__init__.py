"""The site: feature store, local training, and the process that joins a federation."""
