"""Who calls, and what they may do: names proven by certificates and tokens, the policy, and limits."""
