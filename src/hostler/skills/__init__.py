"""What a skill is: its folder, the head of its SKILL.md, and the skills that come with the server, a folder each.

It must not know who uses a skill, nor where an uploaded one is kept.
"""
