"""The page at ``/``: files of the package, without a build step, a framework or a request to another host."""
