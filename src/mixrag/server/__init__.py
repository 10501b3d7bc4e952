"""HTTP: endpoints that existing clients speak, the whole mixture, a page, and MCP."""
