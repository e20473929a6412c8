"""The verdict: what needs a person, what is late, what stands still, and what to do about it, decided here alone.

`rules` holds the rules, `evidence` the questions to the database. Whoever shows or raises something (pages, `status`,
`doctor`, `/readyz?verbose`, metrics) reads `judging` and adds no rule of its own. What the database cannot know, as how
Redis answers, the caller hands over.
"""
