"""Examples as files: exactly by bits back (`bits_back`), from rough to exact (`progressive`), without a model (`counting`)."""
