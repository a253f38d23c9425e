"""What a thing runs on: target cards, and one small module per runtime. Knows files and arrays only."""
