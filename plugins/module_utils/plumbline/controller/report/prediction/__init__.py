"""What a token of a layout should take, before it is served; and afterwards what it did take, against that."""
