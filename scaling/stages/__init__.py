"""One file a kind of stage: a function of the parent's output and the stage's own recipe."""
