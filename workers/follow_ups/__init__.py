"""Follow-ups before their request: `planning` decides which ones a call gets, `wording` what each of them says.

The request, the intent before it and what its answer means are in `workers.send_follow_up`.
"""
