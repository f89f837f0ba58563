"""What HTTP asks for between a socket and a route, and on the way back."""
