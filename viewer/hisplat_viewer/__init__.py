"""The browser page that shows a scene."""
