"""Networks: plain `network(x_t, t) -> Tensor`, t integer of shape (B,), one output channel group per learned moment."""
