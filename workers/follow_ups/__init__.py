"""What sending a follow-up needs besides the request itself: the words of it, and the appointment that it tells.

The request, the intent before it and what its answer means are in `workers.send_follow_up`.
"""
