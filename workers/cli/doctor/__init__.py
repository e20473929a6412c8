"""`leadway-calls doctor`: the checks that a person would make, each with a verdict and the next step.

Reads rows and asks Leadway harmless questions; changes nothing.
"""
