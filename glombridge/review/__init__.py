"""What a human's review leaves in a project: grades, decisions, queues."""
