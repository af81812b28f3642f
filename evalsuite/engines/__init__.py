"""Where the cells of a sweep run: each engine takes cells and gives what came of them."""
