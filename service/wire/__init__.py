"""What bodies look like on the wire: from bytes to arrays and back, without HTTP around them."""
