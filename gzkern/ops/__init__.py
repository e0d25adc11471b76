"""Operations on the tape: each runs the device's forward pass and writes down its backward pass."""
