"""What more than one test file uses."""
