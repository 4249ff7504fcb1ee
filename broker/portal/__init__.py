"""The door for people: pages that parse, call one service and answer. Refuses to decide or to write."""
