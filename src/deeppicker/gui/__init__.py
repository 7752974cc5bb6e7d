"""The browser application: a small web service over the library, and the page that it serves from ``static``."""
