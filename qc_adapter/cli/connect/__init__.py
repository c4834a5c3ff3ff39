"""What `check --connect` finds: `around` looks, and brings all that talks to others; `findings` are the words."""
