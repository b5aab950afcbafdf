"""Networks, alignment and losses that more than one paper uses. Nothing here draws or touches the disk."""
