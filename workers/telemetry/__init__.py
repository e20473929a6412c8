"""What a process tells about itself: log lines, and the catalogue of metrics.

Imported by everybody, imports nobody of `workers`.
"""
