"""What is compared: pictures, and what a face tracker sees in them."""
