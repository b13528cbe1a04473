"""A process that is killed at one of the moves by which files are put in place."""

KILL_AT_MOVE = """
import os, signal, sys

left, replace = int(sys.argv[2]), os.replace

def killed(*paths):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    replace(*paths)

os.replace = killed
"""
"""Begins a script whose second argument is the number of moves that are still made."""
