"""From a micrograph to picks: the paper's steps, one module each; `pipeline` runs them in order."""
