"""SQLite as several busy threads and processes need it: Django's own backend, with turns for those who write."""
