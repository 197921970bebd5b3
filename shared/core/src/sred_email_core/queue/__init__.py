"""Redis: streams, the retry set, the dead-letter queue, and the scripts that move emails between them."""
