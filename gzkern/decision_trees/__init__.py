"""Decision trees of questions and answers: the reader, and one TOML file a tree."""
