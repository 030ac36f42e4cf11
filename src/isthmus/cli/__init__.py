"""The command line: verbs over `isthmus.jobs` and the packages below it."""
