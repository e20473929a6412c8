"""What receipt and worker are compared with: other ways to do the same, each a program of its own."""
