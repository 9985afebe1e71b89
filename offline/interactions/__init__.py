"""Feature interactions: Hiformer and what it is compared with, all from a row's tokens to what is known of the row."""
