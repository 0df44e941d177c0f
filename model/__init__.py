"""The fraud model: data, network, training, evaluation, export."""
