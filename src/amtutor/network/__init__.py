"""Layers and synapses with one energy: Lagrangians, hypergraphs, the Energy Transformer."""
