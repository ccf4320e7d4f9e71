"""A handshake through the filters, and a connection behind it whose frames pass."""
