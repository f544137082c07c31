"""The read side: the sink feeds store and board, the HTTP API answers from them."""
