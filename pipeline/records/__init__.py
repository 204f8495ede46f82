"""What a study leaves on disk: the folder, events over steps, and the table of results."""
