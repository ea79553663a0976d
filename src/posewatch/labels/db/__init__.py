"""Tables, migrations and connections of the label store."""
