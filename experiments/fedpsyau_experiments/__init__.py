"""Experiments on one machine: server and sites in one process, without a network."""
