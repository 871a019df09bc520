"""Service accounts: tokens that are asked for, tokens that are shown, and what is told of the keys behind them."""
