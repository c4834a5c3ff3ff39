"""Who is signed in: the session store, and the life of a session."""
