"""The verbs, one module a subject. Each imports what it needs when it is called, so that `bct --help` is quick."""
