"""What can be set: settings of a question, models, the trained bundle."""
