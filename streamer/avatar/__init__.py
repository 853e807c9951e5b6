"""One character: what it hears, what draws it, and the engine that runs all of them."""
