"""What the receipt is compared with: other ways to take a notification, each a program of its own."""
