"""What a process tells about itself: the form of its log lines, the catalogue of its metrics, and their shared files.

Every other package may import this one; this one imports nothing of `workers`.
"""
